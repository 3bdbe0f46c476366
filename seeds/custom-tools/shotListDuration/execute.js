(input) => {
  const { shots } = input;
  const fps = input.fps ?? 24;
  const resetMinutes = input.resetMinutes ?? 3;
  const hoursPerDay = input.shootingHoursPerDay ?? 10;
  const round = (value, digits = 2) => Math.round(value * 10 ** digits) / 10 ** digits;
  const pad = (value) => String(value).padStart(2, '0');

  const timecode = (frames) => {
    const seconds = Math.floor(frames / fps);
    const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60, frames % fps];
    return clock.map(pad).join(':');
  };

  // A cut falls on a frame, so each shot is rounded to frames before it is added.
  const timed = shots.map((shot) => {
    const frames = Math.max(1, Math.round(shot.seconds * fps));
    const takes = shot.takes ?? input.takes ?? 4;
    const setup = shot.setupMinutes ?? input.setupMinutes ?? 25;
    const shooting = setup + (takes * shot.seconds) / 60 + (takes - 1) * resetMinutes;
    return { shot: shot.shot, size: shot.size ?? 'unspecified', frames, takes, shootingMinutes: shooting };
  });

  const totalFrames = timed.reduce((sum, shot) => sum + shot.frames, 0);
  const shootingMinutes = timed.reduce((sum, shot) => sum + shot.shootingMinutes, 0);
  const totalSeconds = totalFrames / fps;
  const sorted = timed.map((shot) => shot.frames).sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const medianFrames = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  const extreme = (isBetter) => {
    const shot = timed.reduce((best, candidate) => (isBetter(candidate.frames, best.frames) ? candidate : best));
    return { shot: shot.shot, seconds: round(shot.frames / fps) };
  };

  const bySize = new Map();
  for (const { size, frames } of timed) {
    const entry = bySize.get(size) ?? { size, shots: 0, frames: 0 };
    entry.shots += 1;
    entry.frames += frames;
    bySize.set(size, entry);
  }

  return {
    totalShots: timed.length,
    screenTime: { seconds: round(totalSeconds), frames: totalFrames, timecode: timecode(totalFrames), fps },
    averageShotSeconds: round(totalSeconds / timed.length),
    medianShotSeconds: round(medianFrames / fps),
    cutsPerMinute: round(((timed.length - 1) / totalSeconds) * 60),
    longest: extreme((a, b) => a > b),
    shortest: extreme((a, b) => a < b),
    bySize: [...bySize.values()]
      .sort((a, b) => b.frames - a.frames)
      .map(({ size, shots: count, frames }) => ({
        size,
        shots: count,
        seconds: round(frames / fps),
        sharePercent: round((frames / totalFrames) * 100, 1),
      })),
    shootingEstimate: {
      minutes: round(shootingMinutes, 1),
      days: round(shootingMinutes / 60 / hoursPerDay),
      slowestShots: [...timed]
        .sort((a, b) => b.shootingMinutes - a.shootingMinutes)
        .slice(0, 3)
        .map(({ shot, takes, shootingMinutes: minutes }) => ({ shot, takes, minutes: round(minutes, 1) })),
    },
  };
}
