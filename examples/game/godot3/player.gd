# An automatic player for Arena, for Godot 3 (headless too):
#   ARENA=127.0.0.1:2000 godot3-server --path examples/game/godot3 -s player.gd
# It joins arena:1, flies to the middle and stays near it. Each second it prints, as JSON, what it knows:
# the server's tick, how many snapshots came, its own ship and the names of the ships in view.
extends SceneTree

const SNAPSHOT = 0xF1
const HEADER = 21
const RING = 32
const TURNS = 1024
# name, bits, lowest value, kind: sent whole, as a difference, or as one that goes round (see snapshot.js)
enum {WHOLE, STEP, ROUND}
const FIELDS = [
	["kind", 1, 0, WHOLE], ["x", 14, -7680, STEP], ["y", 14, -7680, STEP], ["turn", 10, 0, ROUND],
	["vx", 10, -400, STEP], ["vy", 10, -400, STEP], ["hp", 7, 0, STEP], ["score", 12, 0, STEP],
	["shots", 4, 0, WHOLE],
]

var net = NetworkedMultiplayerENet.new()
var joined = false
var names = {}
var frames = {}     # snapshot number -> entity id -> fields
var newest = 0
var mask = 0
var own = 0
var server_tick = 0
var lead = 0
var snapshots = 0
var refused = 0
var tick = -1
var inputs = []
var iterations = 0

# The bits of the snapshot that is being read.
var bytes
var at

func _init():
	var address = OS.get_environment("ARENA")
	var parts = (address if address else "127.0.0.1:2000").split(":")
	net.create_client(parts[0], int(parts[1]))

func _iteration(_delta):
	net.poll()
	if net.get_connection_status() == NetworkedMultiplayerPeer.CONNECTION_DISCONNECTED:
		print("disconnected")
		quit()
		return true
	if not joined and net.get_connection_status() == NetworkedMultiplayerPeer.CONNECTION_CONNECTED:
		joined = true
		say(1, {"name": "godot"})
		say(2, {"room": "arena:1"})
	while net.get_available_packet_count() > 0:
		take(net.get_packet())
	if newest:
		play()
	iterations += 1
	if iterations % 60 == 0:
		tell()
	return false

# Typed messages are a code and JSON.
func say(code, value):
	net.set_target_peer(1)
	net.transfer_mode = NetworkedMultiplayerPeer.TRANSFER_MODE_RELIABLE
	net.put_packet(PoolByteArray([code]) + JSON.print(value).to_utf8())

func take(data):
	if data[0] == 10:
		names = JSON.parse(data.subarray(1, data.size() - 1).get_string_from_utf8()).result["players"]
	elif data[0] == SNAPSHOT and data.size() >= HEADER:
		snapshot(data)

func u16(data, from):
	return data[from] << 8 | data[from + 1]

func snapshot(data):
	var number = u16(data, 1)
	var ahead = posmod(number - newest, 65535) if newest else 1
	if ahead == 0 or ahead >= 32767:
		return
	var base = {}
	if data[3]:
		base = frames.get(posmod(number - data[3] - 1, 65535) + 1)
		if base == null:
			refused += 1
			return
	bytes = data
	at = HEADER * 8
	var frame = fill(base)
	if at > data.size() * 8:
		refused += 1
		return
	mask = ((mask << 1 | 1) << (ahead - 1)) & 0xFFFFFFFF if newest and ahead <= 32 else 0
	frames[number] = frame
	if frames.size() > RING:
		frames.erase(frames.keys()[0])
	newest = number
	snapshots += 1
	server_tick = u16(data, 4) << 16 | u16(data, 6)
	lead = data[18] - 256 if data[18] > 127 else data[18]
	own = u16(data, 19)

func fill(base):
	var frame = {}
	var ids = base.keys()
	ids.sort()
	for id in ids:
		if not read(1):
			frame[id] = base[id]
		elif not read(1):
			frame[id] = changed(base[id])
	var last = 0
	while read(1):
		last += golomb(0) + 1
		var state = {}
		for field in FIELDS:
			state[field[0]] = read(field[1]) + field[2]
		frame[last] = state
	return frame

func changed(before):
	var now = before.duplicate()
	var flags = read(FIELDS.size() + 1)   # the first says that it jumped
	if flags >> FIELDS.size() & 1:
		read(1)   # an odd number of times? what is drawn here is never blended
	for n in range(FIELDS.size()):
		var field = FIELDS[n]
		if not flags >> (FIELDS.size() - 1 - n) & 1:
			continue
		if field[3] == WHOLE:
			now[field[0]] = read(field[1]) + field[2]
		else:
			var code = golomb(3)
			now[field[0]] += -(code + 1) / 2 if code & 1 else code / 2
			if field[3] == ROUND:
				now[field[0]] = posmod(now[field[0]], 1 << field[1])
	return now

# Bits, the most significant first; beyond the end there are only zeros, and `at` tells.
func read(count):
	var value = 0
	for _n in range(count):
		var byte = bytes[at >> 3] if at >> 3 < bytes.size() else 0
		value = value << 1 | (byte >> (7 - (at & 7)) & 1)
		at += 1
	return value

func golomb(order):
	var zeros = 0
	while zeros < 32 and not read(1):
		zeros += 1
	return (1 << (zeros + order) | read(zeros + order)) - (1 << order)

# One input for each tick, a little ahead of the server's; each packet holds the last ten.
func play():
	if tick < 0 or abs(server_tick - tick) > 120:
		tick = server_tick + 4
		inputs = []
	var steps = 1
	if lead < 1:
		steps = 2
	elif lead > 6:
		steps = 0
	lead = 2   # said once; the next snapshot says it again
	for _n in range(steps):
		tick += 1
		inputs.push_front(steer())
		if inputs.size() > 10:
			inputs.pop_back()
	var packet = PoolByteArray([0xF0, tick >> 8 & 255, tick & 255, inputs.size()]) + PoolByteArray(inputs)
	var now = OS.get_ticks_usec() & 0xFFFFFFFF
	packet.append_array(PoolByteArray([newest >> 8, newest & 255]))
	for value in [mask, now]:
		packet.append_array(PoolByteArray([value >> 24 & 255, value >> 16 & 255, value >> 8 & 255, value & 255]))
	if inputs.empty():
		return
	net.set_target_peer(1)
	net.transfer_mode = NetworkedMultiplayerPeer.TRANSFER_MODE_UNRELIABLE_ORDERED
	net.put_packet(packet)

# Buttons by bit: left, right, thrust, brake, fire.
func steer():
	var me = frames[newest].get(own)
	if me == null:
		return 0
	var want = atan2(-me["y"], -me["x"]) * TURNS / TAU
	var off = fposmod(want - me["turn"] + TURNS / 2.0, TURNS) - TURNS / 2.0
	var far = Vector2(me["x"], me["y"]).length() > 10 * 128
	return (1 if off < -10 else 0) | (2 if off > 10 else 0) | (4 if far and abs(off) < 100 else 0)

func tell():
	var seen = []
	var me = null
	if newest:
		me = frames[newest].get(own)
		for id in frames[newest]:
			if not frames[newest][id]["kind"] and names.has(str(id)):
				seen.append(names[str(id)])
	print(JSON.print({"tick": server_tick, "snapshots": snapshots, "refused": refused, "own": me, "sees": seen}))
