(input) => {
  // Below this saturation the eye sees a gray, whose hue means nothing.
  const NEUTRAL_SATURATION_PERCENT = 10;
  const minimumRatio = input.minimumRatio ?? 4.5;
  const round = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

  const channelsOf = (hex) => {
    const digits = hex.slice(1);
    const full = digits.length === 3 ? [...digits].map((digit) => digit + digit).join('') : digits;
    return [0, 2, 4].map((start) => parseInt(full.slice(start, start + 2), 16) / 255);
  };

  // Relative luminance as WCAG 2 defines it for sRGB.
  const luminanceOf = (channels) => {
    const [red, green, blue] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };

  const hslOf = ([red, green, blue]) => {
    const high = Math.max(red, green, blue);
    const low = Math.min(red, green, blue);
    const range = high - low;
    const lightness = (high + low) / 2;
    if (range === 0) return { hue: 0, saturation: 0, lightness: lightness * 100 };
    let sector;
    if (high === red) sector = ((green - blue) / range + 6) % 6;
    else if (high === green) sector = (blue - red) / range + 2;
    else sector = (red - green) / range + 4;
    const saturation = range / (1 - Math.abs(2 * lightness - 1));
    return { hue: sector * 60, saturation: saturation * 100, lightness: lightness * 100 };
  };

  const colors = input.colors.map(({ name, hex }) => {
    const channels = channelsOf(hex);
    return { name, hex: hex.toUpperCase(), luminance: luminanceOf(channels), ...hslOf(channels) };
  });

  const relationOf = (a, b) => {
    if (a.saturation < NEUTRAL_SATURATION_PERCENT || b.saturation < NEUTRAL_SATURATION_PERCENT) {
      return { relation: 'with a neutral', hueDistance: null };
    }
    const apart = Math.abs(a.hue - b.hue);
    const hueDistance = Math.min(apart, 360 - apart);
    let relation = 'complementary';
    if (hueDistance < 15) relation = 'same hue';
    else if (hueDistance < 45) relation = 'analogous';
    else if (hueDistance < 100) relation = 'contrasting';
    else if (hueDistance < 135) relation = 'triadic';
    else if (hueDistance < 165) relation = 'split-complementary';
    return { relation, hueDistance: round(hueDistance, 1) };
  };

  const pairs = [];
  for (let i = 0; i < colors.length; i += 1) {
    for (let j = i + 1; j < colors.length; j += 1) {
      const [a, b] = [colors[i], colors[j]];
      const ratio = (Math.max(a.luminance, b.luminance) + 0.05) / (Math.min(a.luminance, b.luminance) + 0.05);
      pairs.push({
        colors: [a.name, b.name],
        // Rounded down, so that 4.499 never passes for 4.5.
        ratio: Math.floor(ratio * 100 + 1e-9) / 100,
        passes: ratio >= minimumRatio - 1e-9,
        ...relationOf(a, b),
      });
    }
  }
  pairs.sort((a, b) => b.ratio - a.ratio);

  return {
    colors: colors.map((color) => ({
      name: color.name,
      hex: color.hex,
      hue: round(color.hue, 1),
      saturationPercent: round(color.saturation, 1),
      lightnessPercent: round(color.lightness, 1),
      luminance: round(color.luminance, 4),
    })),
    minimumRatio,
    pairs,
    failingPairs: pairs.filter((pair) => !pair.passes).map(({ colors: names, ratio }) => ({ colors: names, ratio })),
  };
}
