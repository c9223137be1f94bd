# Says hello to an echo server that speaks Godot 3's dialect, Game(dialect="godot3"):
#   godot3-server --path examples/game/godot3 -s client3.gd
extends SceneTree
var net = NetworkedMultiplayerENet.new()
var said = false

func _init():
	net.create_client("127.0.0.1", 2000)

func _iteration(_dt):
	net.poll()
	if not said and net.get_connection_status() == NetworkedMultiplayerPeer.CONNECTION_CONNECTED:
		net.set_target_peer(1)
		net.transfer_mode = NetworkedMultiplayerPeer.TRANSFER_MODE_RELIABLE
		net.put_packet("hello".to_utf8())
		said = true
	while net.get_available_packet_count() > 0:
		print(net.get_packet().get_string_from_utf8())
