(input) => {
  // Above these the answer would be too long to be read; leading parts are what matters.
  const MAX_CHARACTERS = 120;
  const MAX_PAIRS = 100;

  const keyOf = (name) => name.trim().replace(/\s+/g, ' ').toLowerCase();
  const percent = (part, whole) => Math.round((part / whole) * 1000) / 10;
  const { scenes } = input;

  const spelling = new Map(); // the first spelling of a name stands for all
  const castOfScene = scenes.map((scene) => {
    const keys = new Set();
    for (const name of scene.characters) {
      const key = keyOf(name);
      if (key === '') throw new Error(`scene "${scene.scene}" names a character without letters`);
      if (!spelling.has(key)) spelling.set(key, name.trim());
      keys.add(key);
    }
    return keys;
  });
  if (spelling.size === 0) throw new Error('no scene names a character: there is no presence to measure');
  if (spelling.size > MAX_CHARACTERS) {
    throw new Error(`${spelling.size} characters are more than ${MAX_CHARACTERS}: leave out extras`);
  }

  // The longest run of scenes without the character between two appearances.
  const longestAbsence = (indexes) => {
    let longest = { scenes: 0, after: null, until: null };
    for (let i = 1; i < indexes.length; i += 1) {
      const absent = indexes[i] - indexes[i - 1] - 1;
      if (absent > longest.scenes) {
        longest = { scenes: absent, after: scenes[indexes[i - 1]].scene, until: scenes[indexes[i]].scene };
      }
    }
    return longest;
  };

  const characters = [...spelling].map(([key, name]) => {
    const indexes = castOfScene.flatMap((cast, index) => (cast.has(key) ? [index] : []));
    return {
      name,
      scenes: indexes.length,
      sharePercent: percent(indexes.length, scenes.length),
      firstScene: scenes[indexes[0]].scene,
      lastScene: scenes[indexes[indexes.length - 1]].scene,
      longestAbsence: longestAbsence(indexes),
      aloneScenes: indexes.filter((index) => castOfScene[index].size === 1).length,
      presence: castOfScene.map((cast) => (cast.has(key) ? 1 : 0)),
    };
  });
  characters.sort((a, b) => b.scenes - a.scenes || (a.name < b.name ? -1 : 1));

  const pairs = [];
  const neverMeet = [];
  for (let i = 0; i < characters.length; i += 1) {
    for (let j = i + 1; j < characters.length; j += 1) {
      const [a, b] = [characters[i], characters[j]];
      const shared = a.presence.reduce((sum, present, index) => sum + present * b.presence[index], 0);
      if (shared > 0) pairs.push({ characters: [a.name, b.name], scenes: shared });
      // Two people with one scene each prove nothing; from two scenes on it is a choice.
      else if (a.scenes > 1 && b.scenes > 1) neverMeet.push([a.name, b.name]);
    }
  }
  pairs.sort((a, b) => b.scenes - a.scenes);

  return {
    totalScenes: scenes.length,
    totalCharacters: characters.length,
    scenesWithoutCharacters: scenes.filter((_, index) => castOfScene[index].size === 0).map((scene) => scene.scene),
    characters,
    totalPairs: pairs.length,
    pairs: pairs.slice(0, MAX_PAIRS),
    neverMeet: neverMeet.slice(0, MAX_PAIRS),
  };
}
