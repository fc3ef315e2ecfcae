"""Who is told of what happens, and how: notices, the targets that they go to, and the ways there."""
