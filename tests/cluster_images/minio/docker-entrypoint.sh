#!/bin/sh
# As in the public image, `server /data` alone means `minio server /data`.
[ "$1" = minio ] || set -- minio "$@"
exec "$@"
