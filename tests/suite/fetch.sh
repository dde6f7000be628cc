#!/bin/bash
# fetch.sh DIR: Redis' own test suite, from the source of Debian's package, into DIR/redis; prints that path. What
# was fetched once is used again. Nothing of the machine's own apt is changed: lists and cache are below DIR.
set -euo pipefail

dir=$(mkdir -p "$1" && cd "$1" && pwd)
source="$dir/redis"
if [ -x "$source/runtest" ]; then
    echo "$source"
    exit 0
fi

# The release and the mirror this machine already uses; deb-src need not be among what it has configured.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -n -E 's!^(URIs:|deb( +\[[^]]*\])?) +(https?://[^ ]*/debian)/?( .*)?$!\3!p' | head -1 || true)
mirror=${mirror:-http://deb.debian.org/debian}
apt="$dir/apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$dir/tar"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $codename main" \
    >"$apt/sources.list"
privately=(-q -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=-" -o "Dir::State::Lists=$apt/lists"
           -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Retries=3)
log="$dir/fetch.log"
if ! { apt-get "${privately[@]}" update && cd "$dir/tar" &&
       apt-get "${privately[@]}" source --download-only redis; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "fetch: the source of Debian's redis package could not be fetched from $mirror" >&2
    exit 1
fi
tarball=$(ls "$dir"/tar/redis_*.orig.tar.gz)
rm -rf "$dir/unpacked"
mkdir "$dir/unpacked"
tar -xzf "$tarball" -C "$dir/unpacked" --strip-components=1
# Complete or not there at all.
mv "$dir/unpacked" "$source"
rm -rf "$apt/lists" "$apt/cache"
echo "$source"
