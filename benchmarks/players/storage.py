"""Slipway's storage: a folder to a bucket and back."""

import argparse

from benchmarks.transfers import add_places, take_turns
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage


def main() -> None:
    parser = argparse.ArgumentParser()
    add_places(parser)
    options = parser.parse_args()
    storage = ObjectStorage(load_settings())
    uri = f"s3://{options.bucket}/folder"
    take_turns(options, lambda: storage.upload_folder(options.source, uri), lambda: storage.download_folder(uri, options.target))


if __name__ == "__main__":
    main()
