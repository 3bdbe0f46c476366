(input) => {
  const eighthsPerDay = input.eighthsPerDay ?? 32;
  const MAX_DAYS = 150; // a longer shoot is a typing error, or a series to be scheduled block by block
  const moveEighths = input.companyMoveEighths ?? 8;
  const order = input.order ?? 'by-location';
  if (moveEighths >= eighthsPerDay) {
    throw new Error(`a company move of ${moveEighths} eighths leaves nothing of a day of ${eighthsPerDay}`);
  }

  const keyOf = (name) => name.trim().replace(/\s+/g, ' ').toLowerCase();
  const given = input.scenes.map((scene) => ({
    ...scene,
    unit: scene.unit ?? 'day',
    cast: scene.cast ?? [],
    place: keyOf(scene.location),
  }));

  // Day work first, and within it location after location in the order in which they first appear.
  const byLocation = () => {
    const places = [...new Set(given.map((scene) => scene.place))];
    return [...given].sort((a, b) => {
      if (a.unit !== b.unit) return a.unit === 'day' ? -1 : 1;
      return places.indexOf(a.place) - places.indexOf(b.place);
    });
  };
  const scenes = order === 'by-location' ? byLocation() : given;

  const days = [];
  const openDay = (scene) => {
    if (days.length === MAX_DAYS) {
      throw new Error(`more than ${MAX_DAYS} shooting days: check eighths and eighthsPerDay`);
    }
    const day = { day: days.length + 1, unit: scene.unit, eighths: 0, lost: 0, parts: [], places: [], cast: new Map() };
    days.push(day);
    return day;
  };
  const placeOn = (day, scene, eighths) => {
    const last = day.places[day.places.length - 1];
    if (last === undefined || last.place !== scene.place) {
      if (last !== undefined) day.lost += moveEighths;
      day.places.push({ place: scene.place, location: scene.location });
    }
    day.eighths += eighths;
    day.parts.push({ scene: scene.scene, eighths });
    for (const name of scene.cast) if (!day.cast.has(keyOf(name))) day.cast.set(keyOf(name), name.trim());
  };
  // What is left of a day for this scene, after the move it would need; nothing when day and night would mix.
  const roomOn = (day, scene) => {
    if (day === undefined || day.unit !== scene.unit) return 0;
    if (day.places.length === 0) return eighthsPerDay;
    const moves = day.places[day.places.length - 1].place !== scene.place;
    return eighthsPerDay - day.eighths - day.lost - (moves ? moveEighths : 0);
  };

  const splitScenes = [];
  for (const scene of scenes) {
    let rest = scene.eighths;
    let day = days[days.length - 1];
    // A scene that fits into one day is not split over two, and a longer one begins on a morning.
    if (roomOn(day, scene) < rest) day = openDay(scene);
    if (rest > eighthsPerDay) splitScenes.push({ scene: scene.scene, days: Math.ceil(rest / eighthsPerDay) });
    while (rest > 0) {
      const part = Math.min(rest, roomOn(day, scene));
      placeOn(day, scene, part);
      rest -= part;
      if (rest > 0) day = openDay(scene);
    }
  }

  const castDays = () => {
    const people = new Map();
    for (const day of days) {
      for (const [key, name] of day.cast) {
        const entry = people.get(key) ?? { name, firstDay: day.day, lastDay: day.day, workDays: 0 };
        entry.lastDay = day.day;
        entry.workDays += 1;
        people.set(key, entry);
      }
    }
    return [...people.values()]
      .map((entry) => ({ ...entry, holdDays: entry.lastDay - entry.firstDay + 1 - entry.workDays }))
      .sort((a, b) => b.workDays - a.workDays || (a.name < b.name ? -1 : 1));
  };

  const totalEighths = given.reduce((sum, scene) => sum + scene.eighths, 0);
  const movesWithinDays = days.reduce((sum, day) => sum + day.places.length - 1, 0);
  const placeAtEnd = (day) => day.places[day.places.length - 1].place;
  const overnightMoves = days.filter((day, i) => i > 0 && placeAtEnd(days[i - 1]) !== day.places[0].place).length;
  return {
    shootingDays: days.length,
    dayUnits: days.filter((day) => day.unit === 'day').length,
    nightUnits: days.filter((day) => day.unit === 'night').length,
    totalEighths,
    totalPages: totalEighths / 8,
    averagePagesPerDay: Math.round((totalEighths / 8 / days.length) * 100) / 100,
    companyMoves: movesWithinDays,
    overnightMoves,
    days: days.map((day) => ({
      day: day.day,
      unit: day.unit,
      eighths: day.eighths,
      unusedEighths: eighthsPerDay - day.eighths - day.lost,
      locations: day.places.map((place) => place.location),
      scenes: day.parts,
      cast: [...day.cast.values()],
    })),
    scenesOverADay: splitScenes,
    cast: castDays(),
  };
}
