(input) => {
  const SPECIFICATIONS = {
    'ebu-r128': { targetLufs: -23, toleranceLu: 0.5, maximumTruePeakDbtp: -1 },
    'atsc-a85': { targetLufs: -24, toleranceLu: 2, maximumTruePeakDbtp: -2 },
    'streaming-dialogue-27': { targetLufs: -27, toleranceLu: 2, maximumTruePeakDbtp: -2 },
  };
  const round = (value) => Math.round(value * 10) / 10;

  const customLimits = () => {
    const { targetLufs, toleranceLu, maximumTruePeakDbtp } = input;
    if (targetLufs === undefined || toleranceLu === undefined || maximumTruePeakDbtp === undefined) {
      throw new Error('a custom specification needs targetLufs, toleranceLu and maximumTruePeakDbtp');
    }
    return { targetLufs, toleranceLu, maximumTruePeakDbtp };
  };
  const limits = input.specification === 'custom' ? customLimits() : SPECIFICATIONS[input.specification];

  const mixes = input.mixes.map(({ name, integratedLufs, truePeakDbtp }) => {
    const deviation = integratedLufs - limits.targetLufs;
    const loudnessPasses = Math.abs(deviation) <= limits.toleranceLu + 1e-9;
    const truePeakPasses = truePeakDbtp <= limits.maximumTruePeakDbtp + 1e-9;
    // A plain gain moves loudness and peaks by the same number of decibels.
    const peakAfterGain = truePeakDbtp - deviation;
    return {
      name,
      passes: loudnessPasses && truePeakPasses,
      deviationLu: round(deviation),
      loudnessPasses,
      truePeakPasses,
      gainToTargetDb: round(-deviation),
      truePeakAfterGainDbtp: round(peakAfterGain),
      limitingNeededDb: round(Math.max(0, peakAfterGain - limits.maximumTruePeakDbtp)),
    };
  });

  return {
    specification: input.specification,
    ...limits,
    mixes,
    failing: mixes.filter((mix) => !mix.passes).map((mix) => mix.name),
  };
}
