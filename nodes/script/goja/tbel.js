// What TBEL has and JavaScript lacks: functions, and methods of Java's maps, lists and texts. Bytes are numbers from -128 to 127, as in Java.
// Gives the function that calls such a method.
(function (tools) {
  const isList = Array.isArray, keys = Object.keys, has = (o, k) => Object.prototype.hasOwnProperty.call(o, k);
  const isMap = (v) => typeof v === 'object' && v !== null && !isList(v) && !(v instanceof Date) && !(v instanceof Set);
  const same = (a, b) => a === b || (typeof a === 'object' && typeof b === 'object' && JSON.stringify(a) === JSON.stringify(b));
  const byte = (n) => (n << 24) >> 24;
  const wrong = (text) => { throw new TypeError(text); };

  const list = {
    add: (l, a, b) => { if (b === undefined) l.push(a); else l.splice(a, 0, b); return true; },
    addAll: (l, more) => { for (const v of more) l.push(v); return true; },
    get: (l, i) => (i >= 0 && i < l.length ? l[i] : wrong('there is no item ' + i + ' in a list of ' + l.length)),
    remove: (l, i) => l.splice(i, 1)[0],
    contains: (l, v) => l.some((x) => same(x, v)),
    size: (l) => l.length, length: (l) => l.length, isEmpty: (l) => l.length === 0, clear: (l) => { l.length = 0; },
    equals: same,
  };
  const map = {
    put: (m, k, v) => { const was = m[k]; m[k] = v; return was === undefined ? null : was; },
    get: (m, k) => (has(m, k) ? m[k] : null),
    getOrDefault: (m, k, v) => (has(m, k) ? m[k] : v),
    putIfAbsent: (m, k, v) => { if (m[k] === undefined || m[k] === null) m[k] = v; return m[k]; },
    putAll: (m, more) => { for (const k of keys(more)) m[k] = more[k]; },
    remove: (m, k) => { const was = m[k]; delete m[k]; return was === undefined ? null : was; },
    containsKey: (m, k) => has(m, k), containsValue: (m, v) => keys(m).some((k) => same(m[k], v)),
    keySet: (m) => keys(m), values: (m) => keys(m).map((k) => m[k]),
    entrySet: (m) => keys(m).map((k) => ({ key: k, value: m[k] })),
    getKey: (m) => m.key, getValue: (m) => m.value,
    size: (m) => keys(m).length, isEmpty: (m) => keys(m).length === 0,
    clear: (m) => { for (const k of keys(m)) delete m[k]; }, equals: same,
  };
  const text = {
    length: (s) => s.length, isEmpty: (s) => s.length === 0, isBlank: (s) => s.trim() === '', contains: (s, part) => s.includes(part),
    equals: (s, t) => s === t, equalsIgnoreCase: (s, t) => typeof t === 'string' && s.toLowerCase() === t.toLowerCase(),
    matches: (s, pattern) => new RegExp('^(?:' + pattern + ')$').test(s), replaceFirst: (s, pattern, by) => s.replace(new RegExp(pattern), by),
  };
  const other = { equals: same };
  const methods = (o) => (isList(o) ? list : typeof o === 'string' ? text : isMap(o) ? map : other);
  const java = (o, name, ...args) => {
    if (o === undefined || o === null) wrong("Cannot read property '" + name + "' of " + o);
    const own = o[name];
    if (typeof own === 'function' && !(name === 'values' && isList(o))) return own.apply(o, args);
    const set = methods(o);
    return has(set, name) ? set[name](o, ...args) : wrong('there is no method ' + name);
  };

  // Numbers.
  const round = (x, n) => { const p = 10 ** n; return Math.sign(x) * Math.round((Math.abs(x) + Number.EPSILON * Math.abs(x)) * p) / p; };
  const number = (s, radix) => {
    if (typeof s === 'number') return s;
    const t = String(s).trim(), base = radix === undefined || radix === 0 ? (/^[+-]?0x/i.test(t) ? 16 : 10) : radix;
    const n = parseInt(t, base);
    return isNaN(n) ? null : n;
  };
  const real = (s) => { const n = parseFloat(s); return isNaN(n) ? null : n; };
  const digits = (n, width) => { let s = n.toString(16).toUpperCase(); while (s.length < width) s = '0' + s; return s; };
  const turn = (hex) => hex.match(/../g).reverse().join('');
  const even = (hex) => (hex.length % 2 ? '0' : '') + hex;
  const bare = (hex) => even(String(hex).replace(/^0x/i, ''));
  const view = (bytes) => { const v = new DataView(new ArrayBuffer(bytes.length)); bytes.forEach((b, i) => v.setInt8(i, b)); return v; };
  const ordered = (bytes, big) => (big === false ? bytes.slice().reverse() : bytes);

  const f = {
    isMap, isList, isArray: isList, isSet: (v) => v instanceof Set, newSet: () => new Set(), toSet: (l) => new Set(l),
    toFixed: (x, n) => round(x, n), toInt: (x) => round(x, 0), parseLong: number, parseInt: number, parseFloat: real, parseDouble: real,
    padStart: (s, n, fill) => String(s).padStart(n, fill), padEnd: (s, n, fill) => String(s).padEnd(n, fill),
    raiseError: (message) => { throw new Error(typeof message === 'string' ? message : JSON.stringify(message)); },
    toFlatMap: (from, exclude, path) => {
      const skip = isList(exclude) ? exclude : [], whole = isList(exclude) ? path !== false : exclude !== false, out = {};
      const walk = (v, name, last) => {
        if (typeof v === 'object' && v !== null) {
          for (const k of keys(v)) if (!skip.includes(k)) walk(v[k], name === '' ? k : name + '.' + k, k);
        } else out[whole ? name : last] = v;
      };
      walk(from, '', '');
      return out;
    },

    // Bytes and their forms.
    stringToBytes: (s) => Array.from(unescape(encodeURIComponent(String(s))), (c) => byte(c.charCodeAt(0))),
    bytesToString: (bytes) => decodeURIComponent(escape(bytes.map((b) => String.fromCharCode(b & 255)).join(''))),
    hexToBytes: (hex) => (bare(hex).match(/../g) || []).map((h) => byte(parseInt(h, 16))),
    bytesToHex: (bytes) => bytes.map((b) => digits(b & 255, 2)).join(''),
    bytesToBase64: (bytes) => btoa(bytes.map((b) => String.fromCharCode(b & 255)).join('')),
    base64ToBytes: (s) => Array.from(atob(s), (c) => byte(c.charCodeAt(0))),
    base64ToHex: (s) => f.bytesToHex(f.base64ToBytes(s)),
    printUnsignedBytes: (bytes) => bytes.map((b) => b & 255),
    intToHex: (n, big, prefix, width) => {
      const hex = even(digits(n < 0 ? n + 4294967296 : n, width === undefined ? 2 : width));
      return (prefix === true ? '0x' : '') + (big === false ? turn(hex) : hex);
    },
    parseBytesToInt: (bytes, from, length, big) => {
      const n = length === undefined ? bytes.length - (from || 0) : length, part = ordered(bytes.slice(from || 0, (from || 0) + n), big);
      if (part.length < n || n > 4) wrong('there are no ' + n + ' bytes from ' + (from || 0) + ' on that make an integer');
      let out = 0;
      for (const b of part) out = (out << 8) | (b & 255);
      return out;
    },
    parseBytesToFloat: (bytes, from, length, big) => {
      const n = length === undefined ? 4 : length, part = ordered(bytes.slice(from || 0, (from || 0) + n), big);
      if (part.length !== 4) wrong('a float has 4 bytes, there are ' + part.length);
      return view(part).getFloat32(0);
    },
    parseBytesToDouble: (bytes, from, length, big) => {
      const n = length === undefined ? 8 : length, part = ordered(bytes.slice(from || 0, (from || 0) + n), big);
      if (part.length !== 8) wrong('a double has 8 bytes, there are ' + part.length);
      return view(part).getFloat64(0);
    },
    parseHexToInt: (hex, big) => { const b = f.hexToBytes(hex); return b.length < 4 ? parseInt(big === false ? turn(bare(hex)) : bare(hex), 16) : f.parseBytesToInt(b, 0, b.length, big); },
    parseBigEndianHexToInt: (hex) => f.parseHexToInt(hex, true), parseLittleEndianHexToInt: (hex) => f.parseHexToInt(hex, false),
    parseHexToFloat: (hex, big) => f.parseBytesToFloat(f.hexToBytes(hex), 0, 4, big),
    parseBigEndianHexToFloat: (hex) => f.parseHexToFloat(hex, true), parseLittleEndianHexToFloat: (hex) => f.parseHexToFloat(hex, false),
    floatToHex: (x, big) => {
      const v = new DataView(new ArrayBuffer(4));
      v.setFloat32(0, x);
      const hex = digits(v.getUint32(0), 8);
      return '0x' + (big === false ? turn(hex) : hex);
    },
    decodeToString: (bytes) => f.bytesToString(bytes), decodeToJson: (bytes) => JSON.parse(typeof bytes === 'string' ? bytes : f.bytesToString(bytes)),
  };
  tools.tbel = f;
  tools.close(f);
  return java;
});
