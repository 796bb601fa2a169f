"""boto3 or the minio SDK: a folder to a bucket and back, as their documentation shows it.

Small files go through a pool of threads over one client, a large one by the method that splits it. boto3's client is given as
many connections as there are threads; its default of ten would make some wait.
"""

import argparse
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from benchmarks.transfers import add_places, take_turns

LARGE_BYTES = 8 << 20
PREFIX = "folder/"


class Client(Protocol):
    def list_keys(self) -> list[tuple[str, int]]: ...

    def put(self, path: Path, key: str) -> None: ...

    def get(self, key: str, path: Path) -> None: ...

    def put_large(self, path: Path, key: str) -> None: ...

    def get_large(self, key: str, path: Path) -> None: ...


class Boto3Client:
    def __init__(self, bucket: str, num_threads: int) -> None:
        import boto3
        from botocore.config import Config

        config = Config(max_pool_connections=num_threads, s3={"addressing_style": "path"})
        self._client = boto3.client("s3", region_name="us-east-1", config=config)
        self._bucket = bucket

    def list_keys(self) -> list[tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=PREFIX)
        return [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]

    def put(self, path: Path, key: str) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=path.read_bytes())

    def get(self, key: str, path: Path) -> None:
        path.write_bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def put_large(self, path: Path, key: str) -> None:
        self._client.upload_file(str(path), self._bucket, key)

    def get_large(self, key: str, path: Path) -> None:
        self._client.download_file(self._bucket, key, str(path))


class MinioClient:
    def __init__(self, bucket: str, num_threads: int) -> None:
        import urllib3
        from minio import Minio

        endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])  # noqa: TID251 - not the product
        self._client = Minio(
            endpoint=endpoint.netloc,
            access_key=os.environ["AWS_ACCESS_KEY_ID"],  # noqa: TID251
            secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],  # noqa: TID251
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(maxsize=num_threads),
        )
        self._bucket = bucket

    def list_keys(self) -> list[tuple[str, int]]:
        found = self._client.list_objects(self._bucket, prefix=PREFIX, recursive=True)
        return [(str(entry.object_name), int(entry.size or 0)) for entry in found]

    def put(self, path: Path, key: str) -> None:
        content = path.read_bytes()
        self._client.put_object(self._bucket, key, io.BytesIO(content), len(content))

    def get(self, key: str, path: Path) -> None:
        response = self._client.get_object(self._bucket, key)
        try:
            path.write_bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def put_large(self, path: Path, key: str) -> None:
        self._client.fput_object(self._bucket, key, str(path))

    def get_large(self, key: str, path: Path) -> None:
        self._client.fget_object(self._bucket, key, str(path))


CLIENTS: dict[str, Callable[[str, int], Client]] = {"boto3": Boto3Client, "minio": MinioClient}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=CLIENTS, required=True)
    parser.add_argument("--threads", type=int, required=True)
    add_places(parser)
    options = parser.parse_args()
    client = CLIENTS[options.library](options.bucket, options.threads)
    with ThreadPoolExecutor(options.threads) as pool:

        def upload() -> None:
            paths = sorted(options.source.iterdir())
            is_large = {path: path.stat().st_size > LARGE_BYTES for path in paths}
            list(pool.map(lambda path: client.put(path, PREFIX + path.name), [path for path in paths if not is_large[path]]))
            for path in paths:
                if is_large[path]:
                    client.put_large(path, PREFIX + path.name)

        def download() -> None:
            options.target.mkdir()
            keys = client.list_keys()
            small = [key for key, size in keys if size <= LARGE_BYTES]
            list(pool.map(lambda key: client.get(key, options.target / key.removeprefix(PREFIX)), small))
            for key, size in keys:
                if size > LARGE_BYTES:
                    client.get_large(key, options.target / key.removeprefix(PREFIX))

        take_turns(options, upload, download)


if __name__ == "__main__":
    main()
