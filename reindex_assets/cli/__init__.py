"""The command line of a production installation: one module per command or group of commands.

What lives here: arguments, questions and exit statuses. What does not: the work itself, and the commands of the local stack (local/).
"""
