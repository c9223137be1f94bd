# An automatic player for Arena over raw ENet, for Godot 4:
#   godot --headless --path examples/game/godot4 -s player.gd
# It joins arena:1, flies in circles and shoots, and prints how many snapshots came.
# Not run by the tests: there is no Godot 4 in them.
extends SceneTree

const SEQUENCED = 0
const SNAPSHOT = 0xF1
var host := ENetConnection.new()
var server: ENetPacketPeer
var joined := false
var tick := 0
var inputs: Array[int] = []
var snapshots := 0
var newest := 0
var clock := 0.0

func _initialize():
	host.create_host(1)
	server = host.connect_to_host("127.0.0.1", 2000, 2)

func typed(code: int, value: Dictionary) -> PackedByteArray:
	var message := PackedByteArray([code])
	message.append_array(JSON.stringify(value).to_utf8_buffer())
	return message

func _process(delta: float) -> bool:
	var event: Array = host.service()
	while event[0] != ENetConnection.EVENT_NONE:
		match event[0]:
			ENetConnection.EVENT_CONNECT:
				joined = true
				server.send(0, typed(1, {"name": "godot"}), ENetPacketPeer.FLAG_RELIABLE)
				server.send(0, typed(2, {"room": "arena:1"}), ENetPacketPeer.FLAG_RELIABLE)
			ENetConnection.EVENT_RECEIVE:
				var data: PackedByteArray = server.get_packet()
				if data[0] == SNAPSHOT:
					snapshots += 1
					newest = data[1] << 8 | data[2]
			ENetConnection.EVENT_DISCONNECT:
				quit()
		event = host.service()
	clock += delta
	while joined and clock >= 1.0 / 60.0:
		clock -= 1.0 / 60.0
		send_input()
	return false

func send_input():
	tick += 1
	inputs.push_front(0b00101 if tick % 30 else 0b10101)  # left, thrust, now and then fire
	inputs.resize(min(inputs.size(), 10))
	var packet := PackedByteArray([0xF0, tick >> 8 & 0xFF, tick & 0xFF, inputs.size()])
	packet.append_array(PackedByteArray(inputs))
	if newest:  # the newest snapshot, none before it, and our clock: the server sends differences to it
		var now := Time.get_ticks_usec() & 0xFFFFFFFF
		packet.append_array(PackedByteArray([newest >> 8, newest & 0xFF, 0, 0, 0, 0]))
		packet.append_array(PackedByteArray([now >> 24, now >> 16 & 0xFF, now >> 8 & 0xFF, now & 0xFF]))
	server.send(0, packet, SEQUENCED)
	if tick % 60 == 0:
		print("tick %d, %d snapshots" % [tick, snapshots])
