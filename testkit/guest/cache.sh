# The kernels that guests run, made once: sourced by `run`.
#
# $CACHE/<vm>-<checksum of how it is made>/ is complete, or not there at all.

# Prints the folder of the kernel for this vm, after filling it where needed with the vm's `make_kernel FOLDER`.
cached() {
    local folder new
    folder=$CACHE/$1-$(recipe | cksum | cut -d' ' -f1)
    if [[ ! -d $folder ]]; then
        need_tools "${make_tools[@]}"
        mkdir -p "$CACHE"
        exec 9>"$CACHE/lock"
        flock 9
        if [[ ! -d $folder ]]; then
            rm -rf "$CACHE"/unfinished.*
            new=$(mktemp -d "$CACHE/unfinished.XXXXXX")
            chmod 755 "$new"
            make_kernel "$new" >&2 || give_up "the kernel for $1 could not be made"
            mv -T "$new" "$folder"
        fi
        exec 9>&-
    fi
    need_tools "${run_tools[@]}"
    echo "$folder"
}

# Each is COMMAND:PACKAGE.
need_tools() {
    local tool
    for tool; do
        command -v "${tool%%:*}" >/dev/null || give_up "no ${tool%%:*} here; install ${tool#*:}"
    done
}

# Unpacks Debian packages into FOLDER without installing them: unpack FOLDER PACKAGE...
unpack() {
    local folder=$1 deb
    shift
    mkdir -p "$folder/debs"
    say "downloading $*"
    (cd "$folder/debs" && apt-get -q -o APT::Sandbox::User=root download "$@") >"$folder/download.log" 2>&1 || {
        cat "$folder/download.log" >&2
        give_up "apt-get could not download $* (run apt-get update first?)"
    }
    for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder"; done
    rm -rf "$folder/debs" "$folder/download.log"
}
