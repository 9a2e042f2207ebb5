"""NavDP, and NavDP* (the action expert that shares its trunk)."""
