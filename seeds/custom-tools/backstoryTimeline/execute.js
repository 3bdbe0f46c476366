(input) => {
  const MAX_CONTRADICTIONS = 100; // whoever has more has swapped birth years, and sees it from these
  const keyOf = (name) => name.trim().replace(/\s+/g, ' ').toLowerCase();
  const silentYears = input.silentYears ?? 10;
  const { storyYear } = input;

  const people = new Map();
  for (const person of input.characters) {
    const key = keyOf(person.name);
    if (people.has(key)) throw new Error(`characters: "${person.name}" is declared twice`);
    if (person.deathYear !== undefined && person.deathYear < person.birthYear) {
      throw new Error(`characters: "${person.name}" dies in ${person.deathYear} but is born in ${person.birthYear}`);
    }
    people.set(key, { ...person, years: [] });
  }

  // Months are unknown, so an age is that reached in the course of the year.
  const contradictions = [];
  const ageAt = (name, year, event) => {
    const person = people.get(keyOf(name));
    if (person === undefined) {
      contradictions.push({ kind: 'undeclared character', character: name, year, event });
      return { name, age: null };
    }
    person.years.push(year);
    if (year < person.birthYear) {
      contradictions.push({ kind: 'before birth', character: person.name, year, event });
    } else if (person.deathYear !== undefined && year > person.deathYear) {
      contradictions.push({ kind: 'after death', character: person.name, year, event });
    }
    return { name: person.name, age: year - person.birthYear };
  };

  const timeline = [...input.events]
    .sort((a, b) => a.year - b.year)
    .map(({ year, event, characters }) => ({
      year,
      yearsBeforeStory: storyYear - year,
      event,
      characters: characters.map((name) => ageAt(name, year, event)),
    }));

  const describe = (person) => {
    const lastYear = person.deathYear ?? Math.max(storyYear, person.birthYear);
    const known = person.years.filter((year) => year >= person.birthYear && year <= lastYear);
    const marks = [person.birthYear, ...known.sort((a, b) => a - b), lastYear];
    const silences = [];
    for (let i = 1; i < marks.length; i += 1) {
      const years = marks[i] - marks[i - 1];
      if (years >= silentYears) silences.push({ from: marks[i - 1], to: marks[i], years });
    }
    const isAlive = person.deathYear === undefined || person.deathYear >= storyYear;
    const isBorn = person.birthYear <= storyYear;
    return {
      name: person.name,
      ageInStoryYear: isAlive && isBorn ? storyYear - person.birthYear : null,
      events: person.years.length,
      silences,
    };
  };

  return {
    storyYear,
    timeline,
    characters: [...people.values()].map(describe),
    totalContradictions: contradictions.length,
    contradictions: contradictions.slice(0, MAX_CONTRADICTIONS),
  };
}
