// The Arena page: sends inputs, predicts its own ship, draws the others a little in the past.
import { steer, BUTTONS, HALF, UNIT, HZ, TURNS } from "./rules.js";
import { Replica, Ahead, inputPacket, lookPacket } from "./snapshot.js";

const RELIABLE = 0, SEQUENCED = 1, DELAY = 0.1, RADIUS = 30 * UNIT;
const $ = id => document.getElementById(id);
const key = new URLSearchParams(location.search).get("key") || "";
const field = $("field"), paint = field.getContext("2d");
const held = Object.fromEntries(BUTTONS.map(name => [name, 0]));
const KEYS = {
  ArrowLeft: "left", KeyA: "left", ArrowRight: "right", KeyD: "right", ArrowUp: "thrust", KeyW: "thrust",
  ArrowDown: "brake", KeyS: "brake", Space: "fire",
};
let socket, replica, ahead, played = [], recent = [], lastTick = null, room = "lobby", rooms = [], names = {};
let history = [], beams = [], error = [0, 0], errorAt = 0, corrections = 0, stats = null;
const bytes = { snapshots: 0, inputs: 0, other: 0 }, shown = { ...bytes };

function fresh() {
  replica = new Replica();
  ahead = new Ahead(replica.clock, HZ);
  played = []; recent = []; lastTick = null; history = []; beams = [];
}

function connect() {
  fresh();
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/play`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { $("status").textContent = "connected"; say(1, { name: $("name").value || "page" }); weather(); };
  socket.onclose = event => {
    $("status").textContent = `disconnected (${event.code})`;
    if (event.code !== 4000) setTimeout(connect, 1000);
  };
  socket.onmessage = event => receive(new Uint8Array(event.data).subarray(2));
}

function send(delivery, payload) {
  if (socket.readyState !== 1) return;
  socket.send(new Uint8Array([0, delivery, ...payload]));
}
// Typed messages are a code and JSON.
function say(code, value) { send(RELIABLE, [code, ...new TextEncoder().encode(JSON.stringify(value))]); }

function receive(data) {
  if (data[0] === 0xF1) {
    bytes.snapshots += data.length;
    const made = replica.receive(data);
    if (made) take(made);
    return;
  }
  bytes.other += data.length;
  if (data[0] === 10) {
    const told = JSON.parse(new TextDecoder().decode(data.subarray(1)));
    if (told.room !== room) { room = told.room; fresh(); }
    rooms = told.rooms; names = told.players; stats = told;
    list();
  }
}

function take(made) {
  ahead.snapshot(made);
  const previous = history.at(-1);
  history.push(made);
  if (history.length > 300) history.shift();
  for (const [id, ship] of made.frame) {
    const before = previous && previous.frame.get(id);
    if (before && !ship.kind && before.shots !== ship.shots) beams.push({ id, until: performance.now() + 120 });
  }
  const own = made.frame.get(made.own);
  if (!own) { played = []; return; }
  const server = [own.x, own.y, own.turn, own.vx, own.vy];
  const mine = played.find(p => p.tick === made.tick);
  const late = played.filter(p => p.tick > made.tick);
  if (mine && !made.jumped.has(made.own) && mine.ship.every((v, n) => v === server[n])) { played = late; return; }
  const before = visible();
  let ship = server;
  played = late.map(p => ({ ...p, ship: (ship = steer(ship, p.input)) }));
  state = ship;
  if (!mine) return;
  corrections++;
  const jump = [before[0] - ship[0], before[1] - ship[1]];
  error = Math.hypot(...jump) > 2 * UNIT ? [0, 0] : jump;
  errorAt = performance.now();
}

let state = null;
function visible() {
  if (!state) return [0, 0, 0];
  const left = Math.max(0, 1 - (performance.now() - errorAt) / 100);
  return [state[0] + error[0] * left, state[1] + error[1] * left, state[2]];
}

function play() {
  if (!replica.latest) return;
  if (!replica.latest.own) {
    if (Math.random() < 0.3) send(SEQUENCED, lookPacket(replica.feedback()));
    return;
  }
  const now = ahead.tick();
  if (now === null) return;
  if (lastTick === null || now - lastTick > 30 || lastTick - now > 30) lastTick = now - 1;
  while (lastTick < now) {
    lastTick++;
    const input = { ...held };
    recent.unshift(BUTTONS.reduce((bits, name, n) => bits | input[name] << n, 0));
    recent.length = Math.min(recent.length, 10);
    const own = replica.latest.frame.get(replica.latest.own);
    if (!state && own) state = [own.x, own.y, own.turn, own.vx, own.vy];
    if (state) {
      state = steer(state, input);
      played.push({ tick: lastTick, input, ship: state });
      if (played.length > 256) played.shift();
    }
    const packet = inputPacket(lastTick, recent, replica.feedback());
    bytes.inputs += packet.length;
    send(SEQUENCED, packet);
  }
}

function between(when) {
  const drawn = new Map();
  let later = history.at(-1);
  if (!later) return drawn;
  for (let n = history.length - 2; n >= 0; n--) {
    const earlier = history[n];
    if (earlier.time <= when) {
      const share = Math.min((when - earlier.time) / (later.time - earlier.time), 1 + 0.25 / (later.time - earlier.time));
      for (const [id, a] of earlier.frame) {
        const b = later.frame.get(id);
        if (!b || later.jumped.has(id)) drawn.set(id, a);
        else {
          const turn = (b.turn - a.turn + 1.5 * TURNS) % TURNS - TURNS / 2;
          drawn.set(id, { ...b, x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share, turn: a.turn + turn * share });
        }
      }
      return drawn;
    }
    later = earlier;
  }
  return new Map(later.frame);
}

function ship(x, y, turn, colour, outline) {
  const a = turn * 2 * Math.PI / TURNS, at = (r, b) => [(x + Math.cos(a + b) * r * UNIT), (y + Math.sin(a + b) * r * UNIT)];
  paint.beginPath();
  for (const [r, b] of [[1.6, 0], [1.2, 2.4], [0.5, Math.PI], [1.2, -2.4]]) paint.lineTo(...at(r, b));
  paint.closePath();
  if (outline) { paint.strokeStyle = colour; paint.stroke(); } else { paint.fillStyle = colour; paint.fill(); }
}

function draw() {
  play();
  const scale = field.width / (2 * HALF + 4 * UNIT), rewind = Number($("rewind").value) / 10;
  paint.setTransform(1, 0, 0, 1, 0, 0);
  paint.clearRect(0, 0, field.width, field.height);
  paint.setTransform(scale, 0, 0, scale, field.width / 2, field.height / 2);
  paint.lineWidth = 1.5 / scale;
  paint.strokeStyle = "#30363d";
  paint.strokeRect(-HALF, -HALF, 2 * HALF, 2 * HALF);
  const latest = replica.latest;
  if (latest) {
    const smooth = $("interpolation").checked || rewind > 0;
    const drawn = smooth ? between(replica.clock.server() - DELAY - rewind) : latest.frame;
    const predicted = $("prediction").checked && !rewind && state && latest.frame.has(latest.own);
    for (const [id, e] of drawn) {
      if (e.kind) { paint.fillStyle = "#3fb950"; paint.fillRect(e.x - 50, e.y - 50, 100, 100); continue; }
      if (!e.hp || (id === latest.own && predicted)) continue;
      ship(e.x, e.y, e.turn, id === latest.own ? "#58a6ff" : "#f0883e");
      label(e, names[id]);
    }
    const own = latest.frame.get(latest.own);
    if (own && $("ghost").checked) ship(own.x, own.y, own.turn, "#8b949e", true);
    if (own && predicted && own.hp) { const [x, y, turn] = visible(); ship(x, y, turn, "#58a6ff"); label({ ...own, x, y }, names[latest.own]); }
    if (own && $("circle").checked) {
      paint.strokeStyle = "#388bfd55"; paint.beginPath(); paint.arc(own.x, own.y, RADIUS, 0, 7); paint.stroke();
    }
    const now = performance.now();
    beams = beams.filter(b => b.until > now);
    paint.strokeStyle = "#ff7b72";
    for (const { id } of beams) {
      const e = drawn.get(id);
      if (!e) continue;
      const a = e.turn * 2 * Math.PI / TURNS;
      paint.beginPath(); paint.moveTo(e.x, e.y); paint.lineTo(e.x + Math.cos(a) * 45 * UNIT, e.y + Math.sin(a) * 45 * UNIT); paint.stroke();
    }
  }
  requestAnimationFrame(draw);
}

function label(e, name) {
  paint.save();
  paint.fillStyle = "#c9d1d9"; paint.font = `${2.2 * UNIT}px sans-serif`; paint.textAlign = "center";
  paint.fillText(`${name || ""} ${e.score}`, e.x, e.y - 2.4 * UNIT);
  paint.fillStyle = "#da3633"; paint.fillRect(e.x - 1.5 * UNIT, e.y + 2 * UNIT, 3 * UNIT * e.hp / 100, 0.3 * UNIT);
  paint.restore();
}

function list() {
  $("rooms").replaceChildren(...rooms.map(name => {
    const button = document.createElement("button");
    button.textContent = name; button.disabled = name === room; button.onclick = () => say(2, { room: name });
    return button;
  }));
  $("players").replaceChildren(...Object.entries(stats.present).map(([id, name]) => {
    const item = document.createElement("li");
    item.textContent = `${name} `;
    if (key) {
      const kick = document.createElement("button");
      kick.textContent = "kick"; kick.onclick = () => say(4, { peer: Number(id), key });
      item.append(kick);
    }
    return item;
  }));
  const bars = stats.ticks, graph = $("ticks").getContext("2d"), most = Math.max(1, ...bars);
  graph.clearRect(0, 0, 240, 60);
  graph.fillStyle = "#388bfd";
  bars.forEach((count, n) => graph.fillRect(n * 240 / bars.length, 60 - 58 * count / most, 240 / bars.length - 2, 58 * count / most));
}

function weather() {
  const value = id => Number($(id).value);
  for (const id of ["latency", "jitter", "loss", "rate"]) $(id).nextElementSibling.textContent = value(id);
  say(3, { latency: value("latency") / 2000, jitter: value("jitter") / 2000, loss: value("loss") / 100, rate: value("rate") * 1024 });
}

setInterval(() => {
  for (const name in bytes) { shown[name] = bytes[name]; bytes[name] = 0; }
  $("numbers").textContent =
    `snapshots ${shown.snapshots} B/s\ninputs    ${shown.inputs} B/s\nother     ${shown.other} B/s\n` +
    `rtt       ${(replica.clock.rtt * 1000).toFixed(0)} ms\nlead      ${replica.latest ? replica.latest.lead : "-"} ticks\n` +
    `corrected ${corrections}\nrefused   ${replica.refused}\ntick ${stats ? stats.worst.toFixed(2) : "-"} ms at worst`;
}, 1000);

addEventListener("keydown", event => { if (KEYS[event.code] && event.target.tagName !== "INPUT") { held[KEYS[event.code]] = 1; event.preventDefault(); } });
addEventListener("keyup", event => { if (KEYS[event.code]) held[KEYS[event.code]] = 0; });
addEventListener("blur", () => { for (const name in held) held[name] = 0; });
for (const id of ["latency", "jitter", "loss", "rate"]) $(id).addEventListener("input", weather);
$("rewind").addEventListener("input", event => { event.target.nextElementSibling.textContent = event.target.value / 10; });
$("name").addEventListener("change", () => say(1, { name: $("name").value }));
window.arena = { held, get state() { return state; }, get latest() { return replica.latest; }, get corrections() { return corrections; },
  get names() { return names; } };
connect();
draw();
