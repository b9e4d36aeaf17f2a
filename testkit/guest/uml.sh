# User-Mode Linux: the kernel as an ordinary program. Sourced by `run`.
#
# Debian's own user-mode-linux package is built without WireGuard; its kernel source is not.

make_tools=(apt-get:apt dpkg:dpkg gcc:gcc make:make perl:perl flex:flex bison:bison bc:bc xz:xz-utils)
run_tools=(busybox:busybox-static timeout:coreutils)
uml_source=linux-source-6.1

recipe() { declare -f make_kernel && echo "$uml_source" && cat "$HERE/uml.config"; }

make_kernel() {
    local folder=$1 scratch=$1/scratch wanted=$1/scratch/wanted tree=$1/scratch/tree
    unpack "$scratch" "$uml_source" || return
    mkdir "$tree"
    tar -xJf "$scratch"/usr/src/linux-source-*.tar.xz -C "$tree" --strip-components=1
    sed '/^#/d; /^$/d; s/.*/CONFIG_&=y/' "$HERE/uml.config" >"$wanted"
    say "building User-Mode Linux: some five minutes of CPU time"
    {
        make -s -C "$tree" ARCH=um KCONFIG_ALLCONFIG="$wanted" allnoconfig &&
            nice make -s -C "$tree" -j"$(nproc)" ARCH=um linux
    } >"$scratch/log" 2>&1 </dev/null || { tail -n 30 "$scratch/log"; return 1; }
    if grep -vxFf "$tree/.config" "$wanted"; then
        echo "this kernel source knows no such options"
        return 1
    fi
    strip -o "$folder/linux" "$tree/linux"
    make -s -C "$tree" ARCH=um kernelrelease >"$folder/version"
    rm -rf "$scratch"
}

start_guest() {
    local kernel=$1 work=$2 memory_in=/dev/shm
    cp "$(command -v busybox)" "$work/guest/busybox"
    cp "$HERE/init-uml" "$work/guest/"
    cp "$HERE/init" "$work/guest/job/"
    # The guest's memory is a file, which must fit and be executable.
    if findmnt -no OPTIONS -T $memory_in | grep -qw noexec ||
        (($(df -k --output=avail $memory_in | tail -n1) < memory * 1024)); then
        memory_in=$work
    fi
    TMPDIR=$memory_in timeout -k 5 "$limit" "$kernel/linux" "mem=${memory}M" "uml_dir=$work/" umid=guest \
        root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$work/guest/init-uml" con=null con0=null,fd:1 \
        panic=-1 loglevel=5 dummy.numdummies=0 ifb.numifbs=0 \
        sysctl.net.core.fb_tunnels_only_for_init_net=2 </dev/null >"$work/console" 2>"$work/log" &
    guest_pid=$!
}
