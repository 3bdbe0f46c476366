(input) => {
  const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;
  // A long screenplay holds some 250,000 characters; beyond it the search would outlast a tool's time.
  const MAX_CHARACTERS = 300000;
  const tokensOf = (text) => (text.toLowerCase().match(WORD) ?? []).map((word) => word.replace(/’/g, "'"));

  // A term as the words it is made of; the last one may stand for every word that begins with it.
  const parseTerm = (term) => {
    const isPrefix = term.trim().endsWith('*');
    const words = tokensOf(term);
    if (words.length === 0) throw new Error(`the term "${term}" holds no word`);
    return { words, isPrefix };
  };

  const fits = (token, { words, isPrefix }, index) =>
    isPrefix && index === words.length - 1 ? token.startsWith(words[index]) : token === words[index];

  // Texts repeat their words: which terms a word can begin is looked up once for each different word.
  const lookUpTerms = (terms) => {
    const byToken = new Map();
    return (token) => {
      if (!byToken.has(token)) byToken.set(token, terms.filter((term) => fits(token, term, 0)));
      return byToken.get(token);
    };
  };

  const matchesAt = (tokens, position, term) =>
    position + term.words.length <= tokens.length &&
    term.words.every((_, index) => fits(tokens[position + index], term, index));

  // Counts a place once even where two terms of one motif match there.
  const countIn = (tokens, termsBeginningWith) =>
    tokens.filter((token, position) => termsBeginningWith(token).some((term) => matchesAt(tokens, position, term)))
      .length;

  const { scenes } = input;
  const totalCharacters = scenes.reduce((sum, scene) => sum + scene.text.length, 0);
  if (totalCharacters > MAX_CHARACTERS) {
    throw new Error(`${totalCharacters} characters of text are more than ${MAX_CHARACTERS}: send scene summaries`);
  }
  const sceneTokens = scenes.map((scene) => tokensOf(scene.text));
  const firstThirdEnds = scenes.length / 3;
  const lastThirdBegins = (scenes.length * 2) / 3;

  const judge = (indexes) => {
    if (indexes.length === 0) return 'absent';
    if (scenes.length < 3) return 'too few scenes to judge';
    if (indexes[indexes.length - 1] < firstThirdEnds) return 'planted, never paid off';
    if (indexes[0] >= lastThirdBegins) return 'brought in only at the end';
    return indexes.length === 1 ? 'single occurrence' : 'recurs';
  };

  const longestGap = (indexes) => {
    let gap = { scenes: 0, after: null, until: null };
    for (let i = 1; i < indexes.length; i += 1) {
      const missing = indexes[i] - indexes[i - 1] - 1;
      if (missing > gap.scenes) {
        gap = { scenes: missing, after: scenes[indexes[i - 1]].scene, until: scenes[indexes[i]].scene };
      }
    }
    return gap;
  };

  const tracked = input.motifs.map((motif) => {
    const termsBeginningWith = lookUpTerms(motif.terms.map(parseTerm));
    const counts = sceneTokens.map((tokens) => countIn(tokens, termsBeginningWith));
    const indexes = counts.flatMap((count, index) => (count > 0 ? [index] : []));
    return { name: motif.name, counts, indexes };
  });

  const together = [];
  for (let i = 0; i < tracked.length; i += 1) {
    for (let j = i + 1; j < tracked.length; j += 1) {
      const shared = tracked[i].indexes.filter((index) => tracked[j].counts[index] > 0);
      if (shared.length > 0) {
        const names = [tracked[i].name, tracked[j].name];
        together.push({ motifs: names, scenes: shared.map((index) => scenes[index].scene) });
      }
    }
  }

  return {
    totalScenes: scenes.length,
    motifs: tracked.map(({ name, counts, indexes }) => ({
      name,
      occurrences: counts.reduce((sum, count) => sum + count, 0),
      scenes: indexes.map((index) => ({ scene: scenes[index].scene, occurrences: counts[index] })),
      coveragePercent: Math.round((indexes.length / scenes.length) * 1000) / 10,
      firstScene: indexes.length > 0 ? scenes[indexes[0]].scene : null,
      lastScene: indexes.length > 0 ? scenes[indexes[indexes.length - 1]].scene : null,
      longestGap: longestGap(indexes),
      verdict: judge(indexes),
    })),
    together,
  };
}
