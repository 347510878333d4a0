// What every machine is made of before scripts run in it: functions that could cost without bound are replaced by bounded ones, the
// local time is UTC, what makes code of text is taken away, and all is frozen. Gives the function that the compiler puts around
// objects in additions.
(function (tools) {
  const TEXT = 1048576, LIST = 20000, BYTES = 1048576, PATTERN = 1000, STATES = 4000000;
  const { apply, construct, ownKeys, getOwnPropertyDescriptor: describe, defineProperty: define, getPrototypeOf: parent } = Reflect;
  const freeze = Object.freeze, create = Object.create, setParent = Object.setPrototypeOf;
  const isObject = (v) => (typeof v === 'object' && v !== null) || typeof v === 'function';
  const put = (o, name, value) => define(o, name, { value, writable: true, enumerable: false, configurable: true });
  const tooLong = (what, most) => { throw new RangeError(what + ' has more than ' + most + ' characters'); };
  const tooMany = (name) => { throw new RangeError(name + ' takes lists of up to ' + LIST + ' items'); };

  // primitive is what an addition makes of an object (ECMAScript 7.1.1, hint default).
  const primitive = (o) => {
    const own = o[Symbol.toPrimitive];
    let v = own !== undefined && own !== null ? apply(own, o, ['default']) : o.valueOf();
    if (isObject(v) && (own === undefined || own === null)) v = o.toString();
    if (isObject(v)) throw new TypeError('Cannot convert object to primitive value');
    return v;
  };

  // guard lets a method of lists take only so long ones.
  const guard = (proto, name) => {
    const original = proto[name];
    if (typeof original !== 'function') return;
    put(proto, name, { [name]() {
      if (this !== null && this !== undefined && this.length > LIST) tooMany(name);
      return apply(original, this, arguments);
    } }[name]);
  };
  for (const name of ['copyWithin', 'every', 'fill', 'filter', 'find', 'findIndex', 'findLast', 'findLastIndex', 'forEach', 'includes', 'indexOf',
    'lastIndexOf', 'map', 'reduce', 'reduceRight', 'reverse', 'shift', 'slice', 'some', 'sort', 'splice', 'toLocaleString', 'toReversed',
    'toSorted', 'toSpliced', 'unshift', 'with']) guard(Array.prototype, name);

  const isList = Array.isArray, A = Array.prototype, S = String.prototype;
  const concat = A.concat, join = A.join;
  put(A, 'concat', function () {
    let n = this.length;
    for (const a of arguments) if (isObject(a)) n += a.length > 0 ? a.length : 0;
    if (n > LIST) tooMany('concat');
    return apply(concat, this, arguments);
  });
  tools.depth = 0;
  put(A, 'join', function (separator) {
    const sep = separator === undefined ? ',' : '' + separator, n = this.length;
    if (n > LIST) tooMany('join');
    if (n * sep.length > TEXT) tooLong('the joined text', TEXT);
    if (tools.depth > 100) throw new RangeError('the list is nested too deeply to be joined');
    const parts = [];
    let size = 0;
    tools.depth++;
    try {
      for (let i = 0; i < n; i++) {
        const v = this[i];
        parts[i] = v === undefined || v === null || v === this ? '' : String(v);
        size += parts[i].length;
        if (size > TEXT) tooLong('the joined text', TEXT);
      }
    } finally { tools.depth--; }
    return apply(join, parts, [sep]);
  });
  put(A, 'toString', function () { return isList(this) ? this.join() : apply(Object.prototype.toString, this, []); });
  const flatten = (from, into, levels) => {
    for (let i = 0; i < from.length; i++) {
      if (!(i in from)) continue;
      if (levels > 0 && isList(from[i])) flatten(from[i], into, levels - 1);
      else if (into.push(from[i]) > LIST) tooMany('flat');
    }
    return into;
  };
  put(A, 'flat', function (levels) { return flatten(this, [], Math.min(levels === undefined ? 1 : Number(levels) || 0, 100)); });
  put(A, 'flatMap', function (f, self) { return flatten(this.map(f, self), [], 1); });
  put(Array, 'from', function (source, f, self) {
    if (source === undefined || source === null) throw new TypeError('Array.from takes a list, not ' + source);
    const out = [];
    const add = (v) => { if (out.push(f === undefined ? v : apply(f, self, [v, out.length])) > LIST) tooMany('Array.from'); };
    if (source[Symbol.iterator] !== undefined && source[Symbol.iterator] !== null) for (const v of source) add(v);
    else for (let i = 0, n = Math.min(Number(source.length) || 0, LIST + 1); i < n; i++) add(source[i]);
    return out;
  });

  // Calls with a list of arguments.
  const call = Function.prototype.apply;
  put(Function.prototype, 'apply', function (self, list) {
    if (list !== null && list !== undefined && list.length > LIST) tooMany('apply');
    return apply(call, this, [self, list]);
  });
  put(Reflect, 'apply', function (f, self, list) {
    if (list !== null && list !== undefined && list.length > LIST) tooMany('apply');
    return apply(f, self, list);
  });
  put(Reflect, 'construct', function (f, list, target) {
    if (list !== null && list !== undefined && list.length > LIST) tooMany('construct');
    return target === undefined ? construct(f, list) : construct(f, list, target);
  });

  // Texts.
  const repeat = S.repeat, bytesOf = (text, most, what) => (text.length > most ? tooLong(what, most) : text);
  put(S, 'repeat', function (n) {
    if (('' + this).length * Number(n) > TEXT) tooLong('the repeated text', TEXT);
    return apply(repeat, this, [n]);
  });
  for (const name of ['padStart', 'padEnd']) {
    const original = S[name];
    put(S, name, function (n, fill) {
      if (Number(n) > TEXT) tooLong('the padded text', TEXT);
      return apply(original, this, fill === undefined ? [n] : [n, fill]);
    });
  }
  put(S, 'concat', function () {
    let out = '' + this;
    for (const a of arguments) if ((out += bytesOf(String(a), TEXT, 'the text')).length > TEXT) tooLong('the text', TEXT);
    return out;
  });
  put(String, 'raw', undefined);
  delete String.raw;
  for (const name of ['replace', 'replaceAll']) {
    const original = S[name];
    put(S, name, function (what, by) {
      const text = '' + this;
      if (typeof by === 'function') {
        let size = 0;
        return apply(original, text, [what, function () {
          const part = String(apply(by, undefined, arguments));
          if ((size += part.length) > TEXT) tooLong('the replaced text', TEXT);
          return part;
        }]);
      }
      const part = String(by), most = 16 * TEXT;
      let size = part.length;
      for (let at = part.indexOf('$'); at >= 0; at = part.indexOf('$', at + 1)) size += text.length;
      if ((text.length + 1) * size > most) tooLong('the replaced text', most);
      return apply(original, text, [what, part]);
    });
  }

  // Regular expressions: what one costs is its states times the text.
  const exec = RegExp.prototype.exec, sourceOf = describe(RegExp.prototype, 'source').get;
  put(RegExp.prototype, 'exec', function (text) {
    const s = String(text);
    if (s.length > 1000 && s.length * tools.expressionCost(apply(sourceOf, this, [])) > STATES) {
      throw new RangeError('the regular expression is too costly for a text of ' + s.length + ' characters');
    }
    return apply(exec, this, [s]);
  });
  put(RegExp.prototype, 'test', function (text) { return this.exec(text) !== null; });
  put(RegExp.prototype, 'compile', undefined);
  delete RegExp.prototype.compile;

  // around replaces a constructor by one that checks its arguments first.
  const around = (holder, name, check) => {
    const original = holder[name];
    const f = { [name]: function (...args) {
      check(args);
      return new.target === undefined ? apply(original, undefined, args) : construct(original, args, new.target === f ? original : new.target);
    } }[name];
    for (const key of ownKeys(original)) {
      if (key !== 'length' && key !== 'name' && key !== 'prototype' && key !== 'from' && key !== 'of') define(f, key, describe(original, key));
    }
    define(f, 'prototype', { value: original.prototype });
    put(original.prototype, 'constructor', f);
    put(holder, name, f);
    return f;
  };
  around(globalThis, 'RegExp', (args) => bytesOf(String(args[0] instanceof RegExp ? '' : args[0]), PATTERN, 'the regular expression'));
  const bounded = (args) => {
    const n = isObject(args[0]) ? args[0].length : args[0];
    if (n > BYTES / 8) throw new RangeError('there is no room for ' + n + ' items');
  };
  around(globalThis, 'ArrayBuffer', (args) => { if (args[0] > BYTES) throw new RangeError('there is no room for ' + args[0] + ' bytes'); });
  for (const name of ['Int8Array', 'Uint8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'Float32Array',
    'Float64Array']) {
    if (globalThis[name] === undefined) continue;
    const f = around(globalThis, name, bounded);
    put(f, 'from', (source, g, self) => new f(Array.from(source, g, self)));
    put(f, 'of', (...items) => new f(items));
  }
  const typed = parent(Uint8Array.prototype);
  delete typed.constructor.from;
  delete typed.constructor.of;

  // JSON.
  const parse = JSON.parse;
  put(JSON, 'parse', function (text, reviver) {
    const s = String(text);
    bytesOf(s, TEXT / 4, 'the JSON text');
    return reviver === undefined ? parse(s) : parse(s, reviver);
  });
  put(JSON, 'stringify', tools.stringify);
  put(globalThis, 'btoa', (text) => tools.base64(bytesOf(String(text), TEXT, 'the text')));
  put(globalThis, 'atob', (text) => tools.unbase64(bytesOf(String(text), TEXT, 'the text')));

  // The local time is UTC.
  const D = Date, P = Date.prototype, time = P.getTime, iso = P.toISOString;
  const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
  const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
  const two = (n) => (n < 10 ? '0' : '') + n;
  for (const part of ['FullYear', 'Month', 'Date', 'Day', 'Hours', 'Minutes', 'Seconds', 'Milliseconds']) {
    put(P, 'get' + part, P['getUTC' + part]);
    if (part !== 'Day') put(P, 'set' + part, P['setUTC' + part]);
  }
  put(P, 'getTimezoneOffset', function () { return apply(time, this, []) * 0; });
  delete P.getYear;
  delete P.setYear;
  const dated = (d, f) => (isNaN(apply(time, d, [])) ? 'Invalid Date' : f(d));
  const day = (d) => days[d.getDay()] + ' ' + months[d.getMonth()] + ' ' + two(d.getDate()) + ' ' + d.getFullYear();
  const clock = (d) => two(d.getHours()) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds());
  const american = (d) => (d.getMonth() + 1) + '/' + d.getDate() + '/' + d.getFullYear();
  const half = (d) => (d.getHours() % 12 || 12) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds()) + (d.getHours() < 12 ? ' AM' : ' PM');
  for (const [name, f] of [['toString', (d) => day(d) + ' ' + clock(d) + ' GMT+0000 (Coordinated Universal Time)'], ['toDateString', day],
    ['toTimeString', (d) => clock(d) + ' GMT+0000 (Coordinated Universal Time)'], ['toLocaleString', (d) => american(d) + ', ' + half(d)],
    ['toLocaleDateString', american], ['toLocaleTimeString', half]]) {
    put(P, name, { [name]() { return dated(this, f); } }[name]);
  }
  const parseDate = D.parse, zoned = /(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\s*(?:\([^)]*\))?$/i, plainDay = /^[+-]?\d{4,6}(?:-\d\d){0,2}$/;
  const parsed = (text) => {
    const s = String(text).trim();
    if (s.length > 100) return NaN;
    if (apply(exec, zoned, [s]) !== null || apply(exec, plainDay, [s]) !== null) return parseDate(s);
    const utc = parseDate(s + 'Z');
    return isNaN(utc) ? parseDate(s + ' GMT') : utc;
  };
  const milliseconds = (args) => {
    if (args.length > 1) return D.UTC(...args);
    if (args[0] instanceof D) return apply(time, args[0], []);
    const v = isObject(args[0]) ? primitive(args[0]) : args[0];
    return typeof v === 'string' ? parsed(v) : Number(v);
  };
  const UTCDate = function Date(...args) {
    if (new.target === undefined) return new D().toString();
    const d = args.length === 0 ? new D() : new D(milliseconds(args));
    if (new.target !== UTCDate) setParent(d, new.target.prototype);
    return d;
  };
  put(UTCDate, 'now', D.now);
  put(UTCDate, 'UTC', D.UTC);
  put(UTCDate, 'parse', parsed);
  define(UTCDate, 'length', { value: 7 });
  define(UTCDate, 'prototype', { value: P, writable: false });
  put(P, 'constructor', UTCDate);
  put(globalThis, 'Date', UTCDate);

  // What makes code of text, waits, or has no place here.
  const refuse = function () { throw new TypeError('a script cannot make scripts'); };
  const generator = parent(function* () {}), waiting = parent(async function () {});
  for (const proto of [Function.prototype, generator, waiting]) define(proto, 'constructor', { value: refuse, writable: false, configurable: false });
  for (const name of ['eval', 'Function', 'Promise', 'Proxy', 'BigInt', 'BigInt64Array', 'BigUint64Array', 'WeakRef', 'FinalizationRegistry',
    'SharedArrayBuffer', 'Atomics', 'GoError']) delete globalThis[name];
  for (const name of ['toLocaleString', 'localeCompare']) if (S[name] === undefined) delete S[name];

  // soften lets objects have members of their own that are called like what they inherit: frozen ones would swallow the assignment.
  const soften = (proto) => {
    for (const key of ownKeys(proto)) {
      const d = describe(proto, key);
      if (!('value' in d) || !d.configurable) continue;
      const value = d.value;
      define(proto, key, {
        get() { return value; },
        set(v) {
          if (this === proto) return;
          define(this, key, { value: v, writable: true, enumerable: true, configurable: true });
        },
        enumerable: false, configurable: false,
      });
    }
  };
  const errors = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError].map((e) => e.prototype);
  for (const proto of [Object.prototype, ...errors]) soften(proto);

  // Nothing that a script sets survives it. tbel.js adds its functions before the world is closed.
  const seen = new Set();
  const close = (o) => {
    const todo = [o];
    while (todo.length > 0) {
      const x = todo.pop();
      if (!isObject(x) || seen.has(x)) continue;
      seen.add(x);
      freeze(x);
      todo.push(parent(x));
      for (let i = 0, all = ownKeys(x); i < all.length; i++) {
        const d = describe(x, all[i]);
        if ('value' in d) todo.push(d.value);
        else todo.push(d.get, d.set);
      }
    }
  };
  tools.close = (also) => {
    const hidden = [generator, waiting, parent([][Symbol.iterator]()), parent(''[Symbol.iterator]()), parent(new Map()[Symbol.iterator]()),
      parent(new Set()[Symbol.iterator]()), parent((function* () {})()), typed, typed.constructor, errors];
    if (S.matchAll) hidden.push(parent(''.matchAll(/x/g)));
    close([globalThis, hidden, UTCDate, primitive, also]);
  };
  tools.put = put;
  return primitive;
});
