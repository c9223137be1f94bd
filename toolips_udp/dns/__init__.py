"""The DNS house: zones, messages, and a service that answers questions."""
