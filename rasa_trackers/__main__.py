"""``python -m rasa_trackers``."""

from rasa_trackers.cli.main import main

if __name__ == "__main__":
    main()
