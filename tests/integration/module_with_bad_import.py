"""A task module whose own dependency is missing."""

import not_installed_anywhere  # noqa: F401
