(input) => {
  const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;
  const HEADING =
    /^(?:(\d+[A-Z]?)[.)]?\s+)?(INT\.?\s?\/\s?EXT\.?|EXT\.?\s?\/\s?INT\.?|I\/E\.?|INT\.?|EXT\.?|EST\.?)\s+(\S.*)$/i;
  const TIMES = ['DAY', 'NIGHT', 'MORNING', 'AFTERNOON', 'EVENING', 'DAWN', 'DUSK', 'SUNRISE', 'SUNSET', 'MAGIC HOUR'];
  // These say "as before": the light is that of the scene they follow.
  const CARRIED_OVER = ['CONTINUOUS', 'LATER', 'MOMENTS LATER', 'SAME', 'SAME TIME'];
  const UNSPECIFIED = 'UNSPECIFIED';

  const startsWithOneOf = (text, candidates) =>
    candidates.find((candidate) => text === candidate || text.startsWith(`${candidate} `)) ?? null;

  const settingOf = (prefix) => {
    const letters = prefix.toUpperCase().replace(/[^A-Z]/g, '');
    if (letters === 'INTEXT' || letters === 'EXTINT' || letters === 'IE') return 'INT/EXT';
    return letters === 'INT' ? 'INT' : 'EXT'; // an establishing shot is an exterior
  };

  // Prose may begin with "est" or "int": without capitals a heading needs its full stop.
  const headingIn = (line) => {
    const match = HEADING.exec(line.trim());
    const isHeading = match !== null && (match[2].includes('.') || /^(?:INT|EXT|I)\b/.test(match[2]));
    return isHeading ? match : null;
  };

  // Splits "HOUSE - KITCHEN - DAY" into the place and the time; a last part that names no time belongs to the place.
  const splitHeading = (rest, sceneNumber) => {
    let text = rest.trim().replace(/\s+/g, ' ').toUpperCase();
    // Shooting scripts repeat the scene number at the right margin.
    if (sceneNumber !== undefined && text.endsWith(` ${sceneNumber.toUpperCase()}`)) {
      text = text.slice(0, -sceneNumber.length).trim();
    }
    const parts = text.split(/\s+[-–—]+\s+/);
    const last = parts[parts.length - 1];
    const time = startsWithOneOf(last, TIMES);
    const carried = startsWithOneOf(last, CARRIED_OVER);
    if (parts.length < 2 || (time === null && carried === null)) {
      return { location: text, time: UNSPECIFIED, isCarriedOver: false };
    }
    return { location: parts.slice(0, -1).join(' - '), time: time ?? carried, isCarriedOver: time === null };
  };

  const tally = (scenes, key) => {
    const counts = new Map();
    for (const scene of scenes) counts.set(scene[key], (counts.get(scene[key]) ?? 0) + 1);
    return [...counts]
      .map(([name, count]) => ({ name, scenes: count }))
      .sort((a, b) => b.scenes - a.scenes || (a.name < b.name ? -1 : 1));
  };

  const scenes = [];
  for (const line of input.screenplay.split(/\r\n|\r|\n/)) {
    const match = headingIn(line);
    const current = scenes[scenes.length - 1];
    if (match === null) {
      if (current !== undefined) current.words += (line.match(WORD) ?? []).length;
      continue;
    }
    const { location, time, isCarriedOver } = splitHeading(match[3], match[1]);
    scenes.push({
      scene: match[1] ?? String(scenes.length + 1),
      setting: settingOf(match[2]),
      location,
      time: isCarriedOver && current !== undefined ? current.time : isCarriedOver ? UNSPECIFIED : time,
      words: 0,
    });
  }
  if (scenes.length === 0) {
    throw new Error('no scene headings found: a heading begins with INT., EXT., INT./EXT. or EST.');
  }
  if (scenes.length > 500) throw new Error(`${scenes.length} scenes are more than 500: send the screenplay in parts`);

  const byLocation = tally(scenes, 'location');
  const changes = scenes.filter((scene, index) => index > 0 && scene.location !== scenes[index - 1].location).length;
  return {
    totalScenes: scenes.length,
    totalLocations: byLocation.length,
    bySetting: tally(scenes, 'setting'),
    byTime: tally(scenes, 'time'),
    byLocation,
    locationsUsedOnce: byLocation.filter((place) => place.scenes === 1).map((place) => place.name),
    locationChanges: changes,
    scenes,
  };
}
