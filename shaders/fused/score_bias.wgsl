// A bias. A key whose bias is minus infinity is dropped, whatever its score is, and whatever modifiers follow.
let BIAS = VALUE;
if (bitcast<u32>(BIAS) == 0xff800000u) { return LOWEST; }
s += BIAS;
