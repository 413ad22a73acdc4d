"""Layer 5: the command ``visir``. No logic here, and every heavy import inside the command that needs it."""

from visir.cli.app import main as main
