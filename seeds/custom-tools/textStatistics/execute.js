(input) => {
  // A word is a run of letters or digits; apostrophes and hyphens inside it do not split it, nor does a decimal point.
  const WORD = /\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;
  // A full stop after one of these does not end a sentence.
  const ABBREVIATIONS = new Set(['mr', 'mrs', 'ms', 'dr', 'st', 'prof', 'jr', 'sr', 'vs', 'etc', 'int', 'ext', 'no']);

  const round = (value, digits) => {
    const factor = 10 ** digits;
    return Math.round(value * factor) / factor;
  };

  const wordsOf = (text) => text.match(WORD) ?? [];

  // Estimates syllables from English spelling: vowel groups, less the silent endings.
  const syllablesIn = (word) => {
    const letters = word.toLowerCase().normalize('NFD').replace(/[^a-z]/g, '');
    if (letters.length === 0) return 1; // a number or another script: one is the least it can be
    let count = (letters.match(/[aeiouy]+/g) ?? []).length;
    const silentE = /[^aeiouy]e$/.test(letters) && !/[^aeiouy]le$/.test(letters);
    const silentEd = /[^aeioudt]ed$/.test(letters); // "walked" has one syllable, "waited" two
    const silentEs = /[^aeiouscxzgh]es$/.test(letters); // "makes" has one syllable, "pieces" two
    if (silentE || silentEd || silentEs) count -= 1;
    return Math.max(1, count);
  };

  // Splits where closing punctuation is followed by white space or the end, so "3.5" and "a.m" stay whole.
  const sentencesOf = (text) => {
    const sentences = [];
    let start = 0;
    for (const match of text.matchAll(/[.!?…]{1,10}["'”’)\]]{0,5}(?=\s|$)/gu)) {
      const end = match.index + match[0].length;
      const lastWord = wordsOf(text.slice(Math.max(start, match.index - 30), match.index)).pop() ?? '';
      const isInitial = /^\p{Lu}$/u.test(lastWord) && lastWord !== 'I' && end < text.length;
      const isAbbreviation = ABBREVIATIONS.has(lastWord.toLowerCase()) && end < text.length;
      if (match[0] === '.' && (isInitial || isAbbreviation)) continue;
      sentences.push(text.slice(start, end));
      start = end;
    }
    sentences.push(text.slice(start)); // what follows the last full stop, a title line for one
    return sentences.map((sentence) => sentence.trim()).filter((sentence) => wordsOf(sentence).length > 0);
  };

  const text = input.text;
  const words = wordsOf(text);
  if (words.length === 0) throw new Error('text holds no words: there is nothing to measure');

  const readingSpeed = input.readingWordsPerMinute ?? 238;
  const speakingSpeed = input.speakingWordsPerMinute ?? 150;
  const paragraphs = text.split(/\n[^\S\n]*\n/).filter((paragraph) => wordsOf(paragraph).length > 0);
  const sentences = paragraphs.flatMap(sentencesOf);
  const syllables = words.reduce((sum, word) => sum + syllablesIn(word), 0);
  const wordsPerSentence = words.length / sentences.length;
  const syllablesPerWord = syllables / words.length;
  const longest = sentences
    .map((sentence) => ({ words: wordsOf(sentence).length, text: sentence.slice(0, 300) }))
    .reduce((best, sentence) => (sentence.words > best.words ? sentence : best));

  return {
    words: words.length,
    uniqueWords: new Set(words.map((word) => word.toLowerCase())).size,
    sentences: sentences.length,
    paragraphs: paragraphs.length,
    characters: text.length,
    syllables,
    averageWordsPerSentence: round(wordsPerSentence, 2),
    averageSyllablesPerWord: round(syllablesPerWord, 2),
    fleschReadingEase: round(206.835 - 1.015 * wordsPerSentence - 84.6 * syllablesPerWord, 1),
    fleschKincaidGrade: round(0.39 * wordsPerSentence + 11.8 * syllablesPerWord - 15.59, 1),
    readingSeconds: Math.round((words.length / readingSpeed) * 60),
    speakingSeconds: Math.round((words.length / speakingSpeed) * 60),
    longestSentence: longest,
  };
}
