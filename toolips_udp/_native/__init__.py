"""The Cython that binds native/. Import through `toolips_udp.transports` or a house."""
