"""The engine as it runs, but for one person a transaction: so each flush of several people is written down first."""

import sys

from flows import alerting, transaction

if __name__ == "__main__":
    transaction.TOGETHER = 1
    sys.exit(alerting.main())
