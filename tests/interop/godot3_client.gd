extends SceneTree
# A Godot 3 client. usage: godot3-server --path DIR -s godot3_client.gd -- PORT
var net = NetworkedMultiplayerENet.new()
var modes = [NetworkedMultiplayerPeer.TRANSFER_MODE_RELIABLE, NetworkedMultiplayerPeer.TRANSFER_MODE_UNRELIABLE_ORDERED, NetworkedMultiplayerPeer.TRANSFER_MODE_UNRELIABLE]
var sizes = [5, 1300, 100, 200, 40000]
var at = -1
var frames = 0
var done = false

func _init():
	var port = int(OS.get_environment("ENET_PORT"))
	net.create_client("127.0.0.1", port)

func _say():
	var data = PoolByteArray()
	for i in range(sizes[at]):
		data.append((i * 5 + at) & 255)
	net.set_target_peer(1)
	net.transfer_mode = modes[at] if at < 3 else modes[0]
	net.put_packet(data)

func _iteration(_dt):
	if done:
		return true
	net.poll()
	frames += 1
	if frames > 600:
		print("timeout")
		return _end()
	if at < 0 and net.get_connection_status() == NetworkedMultiplayerPeer.CONNECTION_CONNECTED:
		at = 0
		_say()
	while at >= 0 and net.get_available_packet_count() > 0:
		var from = net.get_packet_peer()
		var data = net.get_packet()
		if from != 1 or data.size() != sizes[at] or data[data.size() - 1] != ((data.size() - 1) * 5 + at) & 255:
			print("echo ", at, " differs: ", data.size(), " bytes from ", from)
			return _end()
		at += 1
		if at == sizes.size():
			net.close_connection()
			print("ok")
			return _end()
		_say()
	return false

func _end():
	done = true
	quit()
	return true
