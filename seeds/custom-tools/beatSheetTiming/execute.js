(input) => {
  // The classic places, counted in a screenplay of 110 pages. [beat, first page, last page]
  const REFERENCE_PAGES = 110;
  const BEATS = [
    ['Opening image', 1, 1],
    ['Theme stated', 5, 5],
    ['Set-up', 1, 10],
    ['Catalyst', 12, 12],
    ['Debate', 12, 25],
    ['Break into two', 25, 25],
    ['B story', 30, 30],
    ['Promise of the premise', 30, 55],
    ['Midpoint', 55, 55],
    ['Pressure closes in', 55, 75],
    ['All is lost', 75, 75],
    ['Dark night of the soul', 75, 85],
    ['Break into three', 85, 85],
    ['Finale', 85, 110],
    ['Final image', 110, 110],
  ];
  const ACT_ENDS = [25, 85, 110];
  // Readers stop noticing a shift of about 3 % of the length (3 pages in 110).
  const TOLERANCE_SHARE = 0.03;

  const { pages } = input;
  const minutesPerPage = input.minutesPerPage ?? 1;
  const round = (value) => Math.round(value * 10) / 10;
  const scale = (page) => Math.min(pages, Math.max(1, Math.round((page * pages) / REFERENCE_PAGES)));
  // A page begins when the pages before it have been played, and ends when it has been played itself.
  const minuteAtStart = (page) => round((page - 1) * minutesPerPage);
  const minuteAtEnd = (page) => round(page * minutesPerPage);

  const beats = BEATS.map(([beat, first, last]) => {
    const startPage = scale(first);
    const endPage = scale(last);
    return { beat, startPage, endPage, startMinute: minuteAtStart(startPage), endMinute: minuteAtEnd(endPage) };
  });

  let nextStart = 1;
  const acts = ACT_ENDS.map((end, index) => {
    const startPage = nextStart;
    const endPage = scale(end);
    nextStart = endPage + 1;
    const actPages = endPage - startPage + 1;
    return { act: index + 1, startPage, endPage, pages: actPages, minutes: round(actPages * minutesPerPage) };
  });

  const tolerance = Math.max(1, Math.round(pages * TOLERANCE_SHARE));
  const comparison = (input.draftBeats ?? []).map(({ beat, page }) => {
    if (page > pages) throw new Error(`draftBeats: "${beat}" stands on page ${page} of a draft of ${pages} pages`);
    const expected = beats.find((candidate) => candidate.beat === beat);
    if (expected === undefined) throw new Error(`draftBeats: unknown beat "${beat}"`);
    const pagesLate = page - expected.startPage; // negative: early
    let verdict = 'in place';
    if (pagesLate > tolerance) verdict = 'late';
    if (pagesLate < -tolerance) verdict = 'early';
    return { beat, draftPage: page, expectedPage: expected.startPage, pagesLate, verdict };
  });

  return {
    pages,
    runningMinutes: round(pages * minutesPerPage),
    acts,
    beats,
    tolerancePages: tolerance,
    draftComparison: comparison,
  };
}
