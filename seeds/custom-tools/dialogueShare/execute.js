(input) => {
  const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;
  const SCENE_HEADING = /^(?:\d+[A-Z]?[.)]?\s+)?(?:INT|EXT|EST|I\/E)[.\s/]/;
  // "CUT TO:", "FADE OUT." and the like stand in capitals too, and nobody speaks them.
  const TRANSITION = /^(?:FADE|CUT|DISSOLVE|SMASH|MATCH|JUMP|WIPE|INTERCUT|BACK TO|THE END|END OF|TITLE|SUPER)\b/;
  const LABELS = new Set(['NOTE', 'NOTES', 'SCENE', 'ACT', 'TITLE', 'SUPER', 'TIME', 'LOCATION', 'SETTING', 'ACTION']);
  // Letters, digits and the few signs that names hold; an extension such as (V.O.) may follow.
  const NAME = /^([\p{L}\p{N}][\p{L}\p{N} .'’#&-]{0,39}?)\s*(?:\([^()]{0,40}\)\s*)*$/u;

  const isUpperCase = (text) => text === text.toUpperCase() && /\p{Lu}/u.test(text);
  const isTitleCase = (text) => {
    const words = text.split(/\s+/);
    return words.length <= 3 && words.every((word) => /^[\p{Lu}\p{N}]/u.test(word));
  };
  const countWords = (text) => (text.match(WORD) ?? []).length;
  const percent = (part, whole) => Math.round((part / whole) * 1000) / 10;
  const keyOf = (name) => name.trim().replace(/\s+/g, ' ').toUpperCase();
  const wanted = input.characters && input.characters.length > 0 ? new Set(input.characters.map(keyOf)) : null;

  const nameIn = (candidate) => {
    const match = NAME.exec(candidate.trim());
    return match === null ? null : match[1].trim();
  };

  // The cue and the speech of a line like "MAYA (V.O.): I know.", or null.
  const inlineCue = (line) => {
    const colon = line.indexOf(':');
    if (colon < 1 || colon > 60 || SCENE_HEADING.test(line) || TRANSITION.test(line)) return null;
    const name = nameIn(line.slice(0, colon));
    const speech = line.slice(colon + 1).trim();
    if (name === null || LABELS.has(keyOf(name))) return null;
    if (wanted === null && !isUpperCase(name) && !isTitleCase(name)) return null;
    return { name, speech };
  };

  // The name in a line of its own above a speech, or null. It follows a blank line, unless the name is known already:
  // a shouted "NO" inside a speech is no cue.
  const known = new Set(wanted ?? []);
  const standingCue = (line, previous, next) => {
    if (line === '' || next === '' || SCENE_HEADING.test(line) || TRANSITION.test(line)) return null;
    const name = nameIn(line);
    if (name === null || !isUpperCase(name) || (previous !== '' && !known.has(keyOf(name)))) return null;
    return { name, speech: '' };
  };

  const lines = input.screenplay.split(/\r\n|\r|\n/).map((line) => line.trim());
  const speeches = [];
  let current = null; // the speech that is being read
  lines.forEach((line, index) => {
    const previous = index === 0 ? '' : lines[index - 1];
    const next = index + 1 < lines.length ? lines[index + 1] : '';
    const cue = inlineCue(line) ?? standingCue(line, previous, next);
    if (cue !== null) {
      current = { name: cue.name, text: cue.speech };
      speeches.push(current);
      known.add(keyOf(cue.name));
    } else if (line === '' || SCENE_HEADING.test(line)) {
      current = null;
    } else if (current !== null) {
      current.text += ` ${line}`;
    }
  });

  const bySpeaker = new Map();
  for (const { name, text } of speeches) {
    const key = keyOf(name);
    if (wanted !== null && !wanted.has(key)) continue;
    const spoken = text.replace(/\([^()]*\)/g, ' '); // (beat), (to Tom)
    const words = countWords(spoken);
    if (words === 0) continue;
    const entry = bySpeaker.get(key) ?? { name: key, words: 0, speeches: 0, longestSpeechWords: 0, questions: 0 };
    entry.words += words;
    entry.speeches += 1;
    entry.longestSpeechWords = Math.max(entry.longestSpeechWords, words);
    entry.questions += (spoken.match(/\?+/g) ?? []).length;
    bySpeaker.set(key, entry);
  }
  if (bySpeaker.size === 0) {
    throw new Error('no dialogue found: write cues as "NAME: line", or the name in capitals alone above the speech');
  }

  const speakers = [...bySpeaker.values()].sort((a, b) => b.words - a.words || (a.name < b.name ? -1 : 1));
  const totalWords = speakers.reduce((sum, speaker) => sum + speaker.words, 0);
  return {
    totalWords,
    totalSpeeches: speakers.reduce((sum, speaker) => sum + speaker.speeches, 0),
    characters: speakers.map((speaker) => ({
      ...speaker,
      sharePercent: percent(speaker.words, totalWords),
      averageWordsPerSpeech: Math.round((speaker.words / speaker.speeches) * 10) / 10,
    })),
    silentCharacters: wanted === null ? [] : [...wanted].filter((name) => !bySpeaker.has(name)),
  };
}
