// The caller's function; minus infinity drops the key.
s = CALL;
if (bitcast<u32>(s) == 0xff800000u) { return LOWEST; }
