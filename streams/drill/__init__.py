"""The fault drill: seeded faults under seeded load, judged by a ledger of every event."""
