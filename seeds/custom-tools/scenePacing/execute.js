(input) => {
  const EIGHTHS_PER_PAGE = 8;
  // Raters do not tell half a point apart: scenes within one point of each other feel alike.
  const FLAT_RANGE = 1;

  const { scenes } = input;
  const windowScenes = input.windowScenes ?? 3;
  const round = (value, digits = 2) => Math.round(value * 10 ** digits) / 10 ** digits;
  const pagesOf = (eighths) => round(eighths / EIGHTHS_PER_PAGE, 3);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = Math.floor(sorted.length / 2);
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  };

  const totalEighths = scenes.reduce((sum, scene) => sum + scene.eighths, 0);
  let elapsed = 0;
  const placed = scenes.map((scene) => {
    const start = elapsed;
    elapsed += scene.eighths;
    return { ...scene, start, end: elapsed };
  });

  // A scene that crosses a quarter's border counts in both, by the eighths that lie in each.
  const quarters = [0, 1, 2, 3].map((index) => {
    const from = (totalEighths * index) / 4;
    const to = (totalEighths * (index + 1)) / 4;
    let weighted = 0;
    let beginning = 0;
    for (const scene of placed) {
      weighted += Math.max(0, Math.min(scene.end, to) - Math.max(scene.start, from)) * scene.tension;
      if (scene.start >= from && scene.start < to) beginning += 1;
    }
    return { quarter: index + 1, averageTension: round(weighted / (to - from)), scenesBeginning: beginning };
  });

  const rolling = [];
  for (let i = 0; i + windowScenes <= scenes.length; i += 1) {
    const part = scenes.slice(i, i + windowScenes);
    const tension = round(mean(part.map((scene) => scene.tension)));
    rolling.push({ from: part[0].scene, to: part[part.length - 1].scene, tension });
  }

  // Grows each stretch as far as its tension stays within the range, then goes on behind it.
  const flatStretches = [];
  for (let i = 0; i < placed.length; ) {
    let low = placed[i].tension;
    let high = placed[i].tension;
    let next = i + 1;
    while (next < placed.length) {
      const tension = placed[next].tension;
      if (Math.max(high, tension) - Math.min(low, tension) > FLAT_RANGE) break;
      low = Math.min(low, tension);
      high = Math.max(high, tension);
      next += 1;
    }
    if (next - i >= windowScenes) {
      const last = placed[next - 1];
      flatStretches.push({
        from: placed[i].scene,
        to: last.scene,
        scenes: next - i,
        pages: pagesOf(last.end - placed[i].start),
      });
    }
    i = Math.max(i + 1, next);
  }

  const peak = placed.reduce((best, scene) => (scene.tension > best.tension ? scene : best));
  const longest = [...placed].sort((a, b) => b.eighths - a.eighths).slice(0, 3);
  const lengths = scenes.map((scene) => scene.eighths);
  return {
    totalScenes: scenes.length,
    totalPages: pagesOf(totalEighths),
    averageScenePages: round(mean(lengths) / EIGHTHS_PER_PAGE),
    medianScenePages: round(median(lengths) / EIGHTHS_PER_PAGE),
    longestScenes: longest.map((scene) => ({ scene: scene.scene, pages: pagesOf(scene.eighths) })),
    quarters,
    rollingTension: rolling,
    peak: {
      scene: peak.scene,
      tension: peak.tension,
      beginsAtPercent: round((peak.start / totalEighths) * 100, 1),
    },
    flatStretches,
  };
}
