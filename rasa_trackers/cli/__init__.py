"""The operator's command line: what to do with conversations from a terminal.

It works on event logs and imports neither Rasa nor TensorFlow. Each command is a module
of ``commands``, which is imported when the command runs.
"""
