"""Push the folder of a trained model to the Hub: its weights, configuration, processor and card.

    python scripts/push_to_hub.py outputs/train_system2 me/my-model
    python scripts/push_to_hub.py outputs/train_system2/adapter me/my-adapter --private

Arguments, optimiser states and logs of the training run are not pushed.
"""

import sys
from pathlib import Path

from internnav_hf.command_line import LineParser, ends_in_one_line
from internnav_hf.publishing.licences import parse_licence
from internnav_hf.publishing.repository import Repository, push_folder


def main() -> int:
    """Push, and print the address of the commit."""
    parser = LineParser(__doc__)
    parser.add_argument("folder", type=Path, help="Output folder of a training, or a checkpoint.")
    parser.add_argument("repository", help="OWNER/NAME on the Hub; created if it does not exist.")
    parser.add_argument("--license", help="Identifier of the Hub, if the card states no licence.")
    parser.add_argument("--private", action="store_true", help="Make a new repository private.")
    parser.add_argument("--revision", help="Branch to push to; created if it does not exist.")
    options = parser.parse_args()
    licence = parse_licence(options.license) if options.license else None
    private = True if options.private else None
    repository = Repository(options.repository, private=private, revision=options.revision)
    print(push_folder(options.folder, repository, licence))
    return 0


if __name__ == "__main__":
    with ends_in_one_line():
        sys.exit(main())
