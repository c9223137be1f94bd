// The movement of rules.py in JavaScript: whole numbers, the same results.
export const UNIT = 128, HALF = 60 * UNIT, TURNS = 1024, HZ = 60;
const TURN_SPEED = 14, THRUST = 14, FASTEST = 400;
const table = f => Array.from({ length: TURNS }, (_, n) => Math.round(f(n * 2 * Math.PI / TURNS) * 1024));
const COS = table(Math.cos), SIN = table(Math.sin);
const part = (value, up, down) => Math.trunc(value * up / down);
const within = (value, end) => Math.max(-end, Math.min(end, value));

export const BUTTONS = ["left", "right", "thrust", "brake", "fire"];

export function steer(ship, i) {
  let [x, y, turn, vx, vy] = ship;
  turn = (turn + (i.right - i.left) * TURN_SPEED + TURNS) % TURNS;
  const push = (i.thrust - i.brake) * THRUST;
  vx = within(part(vx, 31, 32) + part(COS[turn] * push, 1, 1024), FASTEST);
  vy = within(part(vy, 31, 32) + part(SIN[turn] * push, 1, 1024), FASTEST);
  x += part(vx, 1, 16);
  y += part(vy, 1, 16);
  if (Math.abs(x) > HALF) { x = within(x, HALF); vx = -part(vx, 1, 2); }
  if (Math.abs(y) > HALF) { y = within(y, HALF); vy = -part(vy, 1, 2); }
  return [x, y, turn, vx, vy].map(v => v + 0);  // no negative zero
}
