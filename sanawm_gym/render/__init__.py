"""A video along a camera path, from one picture: the command `render`."""
