"""Times and moments, as people read them."""

import datetime


def duration(seconds: float) -> str:
    """Return a time for people, such as 40 s, 12 min, 1 h 05 min, 2 d 03 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def clock(moment: str) -> str:
    """Return a moment, in ISO 8601, as this host's clock shows it: the hour today, else with the day."""
    at = datetime.datetime.fromisoformat(moment).astimezone()
    is_today = at.date() == datetime.datetime.now().date()
    return f"{at:%H:%M}" if is_today else f"{at:%a %H:%M}" if _is_soon(at) else f"{at:%Y-%m-%d %H:%M}"


def _is_soon(at: datetime.datetime) -> bool:
    return abs(at - datetime.datetime.now().astimezone()) < datetime.timedelta(days=6)
