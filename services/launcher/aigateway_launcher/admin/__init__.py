"""The commands of operators: `projects`, `keys`, `budgets`, `alerts`, `audit`.

They ask `/admin` of a running gateway, or the same routes in front of the ledger on this machine.
"""
