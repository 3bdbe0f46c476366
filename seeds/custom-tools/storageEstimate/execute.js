(input) => {
  const SECONDS_PER_HOUR = 3600;
  const MEGABITS_PER_GIGABYTE = 8000;
  const copies = input.copies ?? 3;
  const headroom = 1 + (input.headroomPercent ?? 20) / 100;
  const speed = input.offloadMegabytesPerSecond ?? 500;
  const round = (value) => Math.round(value * 100) / 100;

  const items = input.items.map(({ name, megabitsPerSecond, hours }) => ({
    name,
    hours,
    gigabytes: (megabitsPerSecond * SECONDS_PER_HOUR * hours) / MEGABITS_PER_GIGABYTE,
  }));
  const totalGigabytes = items.reduce((sum, item) => sum + item.gigabytes, 0);
  if (totalGigabytes === 0) throw new Error('every item lasts 0 hours: there is nothing to store');

  const perCopy = totalGigabytes * headroom;
  return {
    items: items.map((item) => ({
      name: item.name,
      gigabytes: round(item.gigabytes),
      gigabytesPerHour: item.hours === 0 ? null : round(item.gigabytes / item.hours),
      sharePercent: round((item.gigabytes / totalGigabytes) * 100),
    })),
    totalGigabytes: round(totalGigabytes),
    terabytesPerCopyWithHeadroom: round(perCopy / 1000),
    copies,
    terabytesAllCopies: round((perCopy * copies) / 1000),
    offloadHoursPerCopy: round((totalGigabytes * 1000) / speed / SECONDS_PER_HOUR),
  };
}
