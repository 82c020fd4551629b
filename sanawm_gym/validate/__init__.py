"""How near a generated world is to the reference world: measures, and a report of them."""
