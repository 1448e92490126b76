"""``python -m mqsvc.commands``, the same as ``mqsvc``."""

from mqsvc.commands.main import run

if __name__ == "__main__":
    run()
