"""Step 12: python3 -m examples.service.count REPORT

Compares the replies that wrk has counted in its REPORT with the visits in the database.
"""

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from .store import DATABASE


def main(report: str) -> None:
    text = Path(report).read_text(encoding="utf-8")
    (replies,) = re.findall(r"(\d+) requests in", text)
    errors = dict(re.findall(r"(read|timeout) (\d+)", text)) or {"read": "0", "timeout": "0"}
    with closing(sqlite3.connect(DATABASE)) as database:
        ((visits,),) = database.execute("SELECT count FROM visits WHERE name = 'wrk'").fetchall()
    print("each visit has its reply" if int(replies) == visits else f"{visits}, {replies} replies")
    print("connections lost while a reply was due:", errors["read"])
    print("replies that came too late:", errors["timeout"])


if __name__ == "__main__":
    main(*sys.argv[1:])
