"""Makes a running proxy of its rooms: one opener a room, left in reverse order.

Each opener makes its room's parts, registers their jobs and saves their counters. Nobody else hands settings out.
"""
