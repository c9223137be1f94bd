// Snapshots, inputs and the clock on the client's side; see toolips_udp/game/ for the wire.
const RING = 32, HEADER = 21, SNAPSHOT = 0xF1, INPUT = 0xF0, LOOK = 0xF2;

// [name, bits, lowest value, kind]: kind "whole" is sent whole, "round" goes around, "step" is a difference.
export const FIELDS = [
  ["kind", 1, 0, "whole"], ["x", 14, -7680, "step"], ["y", 14, -7680, "step"], ["turn", 10, 0, "round"],
  ["vx", 10, -400, "step"], ["vy", 10, -400, "step"], ["hp", 7, 0, "step"], ["score", 12, 0, "step"],
  ["shots", 4, 0, "whole"],
];

class Bits {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  read(count) {
    let value = 0;
    for (let n = 0; n < count; n++, this.at++) {
      if (this.at >= this.bytes.length * 8) throw new RangeError("the snapshot ends too early");
      value = value * 2 + (this.bytes[this.at >> 3] >> (7 - (this.at & 7)) & 1);
    }
    return value;
  }
  golomb(order) {
    let zeros = 0;
    while (!this.read(1)) if (++zeros > 32) throw new RangeError("not a number");
    return 2 ** (zeros + order) + this.read(zeros + order) - 2 ** order;
  }
  difference() {
    const value = this.golomb(3);
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }
}

export class Replica {
  constructor() {
    this.frames = new Map();
    this.told = new Map();
    this.mask = 0;
    this.latest = null;
    this.refused = 0;
    this.clock = new Clock();
  }
  receive(data) {
    try { return this.decode(data); } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.refused++;
      return null;
    }
  }
  decode(data) {
    if (data.length < HEADER || data[0] !== SNAPSHOT) throw new RangeError("not a snapshot");
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const number = view.getUint16(1), back = view.getUint8(3);
    const ahead = this.latest ? (number - this.latest.number + 65535) % 65535 : 1;
    if (!(ahead > 0 && ahead < 32767)) return null;
    const base = back ? this.frames.get((number - back - 1 + 65535) % 65535 + 1) : new Map();
    if (!base) throw new RangeError("built on a snapshot that we do not have");
    const made = {
      number, tick: view.getUint32(4), lead: view.getInt8(18), own: view.getUint16(19),
      born: new Set(), jumped: new Set(), told: new Map(), frame: new Map(),
    };
    this.fill(new Bits(data.subarray(HEADER)), base, made);
    for (const [id, odd] of made.told) { // again what a snapshot since the base has told is no news
      const last = [...this.told].filter(([n, told]) => (number - n + 65535) % 65535 < back && told.has(id)).pop();
      if (!last || last[1].get(id) !== odd) made.jumped.add(id);
    }
    made.time = this.clock.snapshot(view.getUint32(8), view.getUint32(12), view.getUint16(16));
    this.frames.set(number, made.frame);
    this.told.set(number, made.told);
    if (this.frames.size > RING) {
      const oldest = this.frames.keys().next().value;
      this.frames.delete(oldest);
      this.told.delete(oldest);
    }
    this.mask = !this.latest || ahead > 32 ? 0 : Number(((BigInt(this.mask) << 1n | 1n) << BigInt(ahead - 1)) & 0xFFFFFFFFn);
    this.latest = made;
    return made;
  }
  fill(bits, base, made) {
    for (const id of [...base.keys()].sort((a, b) => a - b)) {
      const old = base.get(id);
      if (!bits.read(1)) made.frame.set(id, old);
      else if (!bits.read(1)) made.frame.set(id, this.changed(bits, old, id, made));
    }
    for (let last = 0; bits.read(1);) {
      last += bits.golomb(0) + 1;
      made.frame.set(last, Object.fromEntries(FIELDS.map(([name, size, low]) => [name, bits.read(size) + low])));
      made.born.add(last);
    }
  }
  changed(bits, old, id, made) {
    const jumped = bits.read(1), mask = FIELDS.map(() => bits.read(1)), now = { ...old };
    if (jumped) made.told.set(id, bits.read(1));
    FIELDS.forEach(([name, size, low, kind], n) => {
      if (!mask[n]) return;
      if (kind === "whole") now[name] = bits.read(size) + low;
      else {
        now[name] = old[name] + bits.difference();
        if (kind === "round") now[name] = (now[name] + 2 ** size) % 2 ** size;
      }
    });
    return now;
  }
  feedback() {
    const out = new DataView(new ArrayBuffer(10));
    out.setUint16(0, this.latest.number);
    out.setUint32(2, this.mask);
    out.setUint32(6, this.clock.micros());
    return new Uint8Array(out.buffer);
  }
}

// The server's time: the quarter of the samples with the shortest round trip, by its median.
export class Clock {
  constructor(now = () => performance.now() / 1000) {
    this.now = now;
    this.kept = [];
    this.rtt = 0;
    this.jitter = 0;
    this.shift = null;
    this.aim = 0;
    this.last = null;
    this.at = 0;
  }
  micros() { return Math.floor(this.now() * 1e6) % 2 ** 32; }
  snapshot(sent, echo, held) {
    const now = this.now();
    if (this.last === null) this.last = sent;
    else {
      const step = (sent - this.last % 2 ** 32 + 2 ** 32) % 2 ** 32;
      this.last += step < 2 ** 31 ? step : step - 2 ** 32;
    }
    const time = this.last / 1e6;
    if (held !== 0xFFFF) {
      const t0 = now - ((this.micros() - echo + 2 ** 32) % 2 ** 32) / 1e6, t1 = time - held * 1e-5;
      const rtt = now - t0 - (time - t1);
      if (rtt >= 0 && rtt < 60) this.sample(rtt, (t1 - t0 + time - now) / 2, now);
    } else if (this.shift === null) { this.shift = this.aim = time - now; this.at = now; }
    return time;
  }
  sample(rtt, offset, now) {
    this.kept.push([rtt, offset]);
    if (this.kept.length > 16) this.kept.shift();
    const sorted = [...this.kept].sort((a, b) => a[0] - b[0]);
    const best = sorted.slice(0, Math.max(1, sorted.length >> 2)).map(s => s[1]).sort((a, b) => a - b);
    this.aim = (best[best.length >> 1] + best[best.length - 1 >> 1]) / 2;
    this.rtt = sorted[0][0];
    this.jitter = (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.95))][0] - this.rtt) / 2;
    if (this.shift === null || Math.abs(this.aim - this.shift) > 0.05) { this.shift = this.aim; this.at = now; }
  }
  server() {
    const now = this.now(), step = Math.max(0, now - this.at) * 0.01;
    if (this.shift === null) return 0;
    this.shift += Math.max(-step, Math.min(step, this.aim - this.shift));
    this.at = now;
    return now + this.shift;
  }
}

// Which tick to play now, so that its input is there one to two ticks early.
export class Ahead {
  constructor(clock, hz) { this.clock = clock; this.hz = hz; this.start = null; this.extra = 0; }
  snapshot(made) {
    const start = made.time - made.tick / this.hz;
    this.start = this.start === null ? start : Math.min(this.start + 1e-5, start);
    if (made.lead < 1) this.extra = Math.min(this.extra + (made.lead < -1 ? 0.5 : 0.1), 30);
    else if (made.lead > 2) this.extra = Math.max(this.extra - Math.max(0.05, (made.lead - 2) * 0.1), -5);
  }
  tick() {
    if (this.start === null) return null;
    const ahead = (this.clock.rtt / 2 + this.clock.jitter) * this.hz + 1 + this.extra;
    return Math.floor((this.clock.server() - this.start) * this.hz + ahead);
  }
}

export function inputPacket(tick, newestFirst, feedback) {
  const recent = newestFirst.slice(0, 10);
  return new Uint8Array([INPUT, tick >> 8 & 255, tick & 255, recent.length, ...recent, ...feedback]);
}

export function lookPacket(feedback) { return new Uint8Array([LOOK, ...feedback]); }
