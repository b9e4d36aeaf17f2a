# Debian's own kernel in qemu: emulated, or by KVM where the CPU has it. Sourced by `run`.

make_tools=(apt-get:apt dpkg:dpkg busybox:busybox-static cpio:cpio xz:xz-utils)
run_tools=(qemu-system-x86_64:qemu-system-x86 cpio:cpio timeout:coreutils)
qemu_package=linux-image-amd64

# To reach the host's files, and then all that a daemon and the lab make use of; the rest is loaded when asked for.
# crc32c_generic comes before nf_tables, which asks for it without saying so in its dependencies.
boot_modules='virtio_pci virtio_console 9p 9pnet_virtio overlay'
net_modules='crc32c_generic wireguard veth bridge tun dummy nf_tables nft_chain_nat nft_masq nft_nat nft_ct nft_log
    nft_limit nft_reject_inet nft_fib_inet nf_conntrack_netlink sch_netem'

recipe() { declare -f make_kernel load_order plain_kernel && echo "$qemu_package $boot_modules $net_modules" && cat "$HERE/init-qemu"; }

make_kernel() {
    local folder=$1 scratch=$1/scratch image version modules list file
    image=$(apt-cache depends --important $qemu_package | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
    unpack "$scratch" "${image:-$qemu_package}" || return
    version=$(ls "$scratch/lib/modules")
    modules=$scratch/lib/modules/$version
    # Without drivers of hardware that no guest has, looking up a module takes a quarter of the time.
    rm -rf "$modules/kernel/sound" "$modules"/kernel/drivers/net/{ethernet,wireless,usb,can}
    find "$modules/kernel/drivers" -mindepth 1 -maxdepth 1 ! -name net ! -name virtio ! -name char ! -name block \
        -exec rm -rf {} +
    busybox depmod -b "$scratch" "$version"
    plain_kernel "$scratch/boot/vmlinuz-$version" "$folder/kernel"
    mkdir -p "$folder"/initrd/{modules,proc,sys,dev,host,layer,root,io}
    cp "$(command -v busybox)" "$folder/initrd/busybox"
    cp "$HERE/init-qemu" "$folder/initrd/init"
    for list in boot net; do
        local names=${list}_modules
        # shellcheck disable=SC2086
        load_order "$modules" ${!names} >"$folder/$list" || return
        while read -r file; do
            cp -n "$modules/$file" "$folder/initrd/modules/"
            echo "${file##*/}"
        done <"$folder/$list" >"$folder/initrd/modules/$list"
        rm "$folder/$list"
    done
    # Not compressed: an emulated CPU unpacks slower than it reads.
    (cd "$folder/initrd" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$folder/initrd.cpio"
    mv "$scratch/lib/modules/$version" "$folder/modules"
    rm -rf "$scratch" "$folder/initrd"
    echo "$version" >"$folder/version"
}

# Files of the modules and all they need, each after what it needs: load_order FOLDER MODULE...
load_order() {
    local folder=$1 module line
    shift
    for module; do
        if line=$(grep -m1 -E "/${module//[-_]/[-_]}\.ko:" "$folder/modules.dep"); then
            # busybox's depmod names the furthest dependency last.
            tr -d ':' <<<"$line" | tr ' ' '\n' | tac
        elif ! grep -qE "/${module//[-_]/[-_]}\.ko$" "$folder/modules.builtin"; then
            say "the kernel package has no module $module"
            return 1
        fi
    done | awk 'NF && !seen[$0]++'
}

# The kernel without its own decompression, which takes an emulated CPU seconds (the "handover" fields of
# Documentation/x86/boot.rst): plain_kernel COMPRESSED OUT. As it is where that does not work.
plain_kernel() {
    local number sectors start length
    number() { od -An -v "-t$1" -j"$2" -N"$3" "$4" | tr -d ' '; }
    sectors=$(number u1 497 1 "$1")
    start=$((($sectors + 1) * 512 + $(number u4 584 4 "$1")))
    length=$(($(number u4 588 4 "$1") - 4))
    tail -c +$((start + 1)) "$1" | head -c $length | xz -dc --single-stream >"$2" 2>/dev/null || true
    [[ $(number x1 0 4 "$2") == 7f454c46 ]] || cp "$1" "$2"
}

start_guest() {
    local kernel=$1 work=$2 machine append='' port folder number=0
    cp "$HERE/init" "$work/guest/job/init"
    # /dev/kvm alone says little: without these flags it emulates too, and boots no stock kernel.
    if [[ -w /dev/kvm ]] && grep -qwE 'svm|vmx' /proc/cpuinfo; then
        machine=(-accel kvm -cpu host)
    else
        # Emulated, vector code is slower than plain C and `rep movsb` takes a turn for each byte: without them the
        # kernel's WireGuard is twice as fast. SSSE3 is hidden from the kernel alone, as programs take it for granted.
        machine=(-accel tcg -cpu max,-erms,-avx,-avx2,-fma,-f16c)
        append=clearcpuid=ssse3
    fi
    machine+=(-device virtio-serial-pci,ioeventfd=off)
    for port in out err status; do
        machine+=(-chardev "file,id=$port,path=$work/io/$port" -device "virtserialport,chardev=$port,name=$port")
    done
    share() { # TAG PATH [OPTION]
        machine+=(-fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap${3:-}"
            -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
    }
    share host / ,readonly=on
    share modules "$kernel/modules" ,readonly=on
    for folder in "${writable[@]}"; do share "write$((number += 1))" "$folder"; done
    # The kernel unpacks archives that follow one another.
    { cat "$kernel/initrd.cpio" && cd "$work/guest" && find . | cpio --quiet -o -H newc -R 0:0; } >"$work/initrd"
    timeout -k 5 "$limit" qemu-system-x86_64 -nodefaults -no-user-config -display none -monitor none -no-reboot \
        -machine pc "${machine[@]}" -smp "$cpus" -m "$memory" -device isa-debug-exit,iobase=0xf4,iosize=0x01 \
        -chardev "file,id=console,path=$work/console" -serial chardev:console \
        -kernel "$kernel/kernel" -initrd "$work/initrd" \
        -append "console=ttyS0 loglevel=5 panic=-1 reboot=t mitigations=off nokaslr $append" \
        </dev/null >"$work/log" 2>&1 &
    guest_pid=$!
}
