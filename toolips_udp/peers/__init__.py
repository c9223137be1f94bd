"""Clients that stay: peers on the wire, below the houses `game` and `messages`.

Imports the ground floor, transports and extensions; never a house. `game/`,
`messages/` and `testing/` call it.
"""
