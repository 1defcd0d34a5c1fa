# A guest that keeps changing all of its memory, so that a lost, stale or torn page shows.
#
# QEMU loads it with -kernel (Multiboot 0.6.96, header with load addresses) and enters it in 32-bit protected mode with flat
# segments, paging off. It needs no BIOS, disk or interrupt.
#
# steps counts page writes. With n pages in the region, step s writes page s % n in pass s / n. A page written in step s holds
#   at 512 * k, k = 0..7:  8 * s + k
#   at 4088:               the complement of 8 * s + 7
# as little-endian u64. So while steps is s: the pages before page s % n hold pass s / n, the pages after it hold the pass
# before, and that page itself is in progress. verify.ts checks this. steps is written by one 64-bit store: a stop of
# the VM cannot tear it.
#
# Before it writes a page the guest checks whether it still holds what the pass before wrote; bad counts the pages that do not, bad_page is
# the first of them. So a page that was lost or torn on its way shows even though the guest has run on since.
#
# QEMU 7.2's software emulation does not see a write that finds its page in the TLB when the migration has fetched the dirty bits
# since: the bit stays clear until the page is looked up again. (KVM has no such gap.) The TLB grows with what is used, also
# when migrations begin and are cancelled, until the region fits. So each pass begins with an empty one, and each step forces a new look-up
# of the page with the state.
#
# After a pass the guest prints "pass <decimal>" on COM1, the pass that is now complete; small regions skip lines, so that the
# guest writes memory rather than text.
#
# --defsym REGION_PAGES=<n>: at most this many pages, counted from REGION_BASE. 0: all RAM up to its end or 3 GiB.

        .set LOAD_ADDRESS,  0x100000
        .set STATE_ADDRESS, 0x101000
        .set REGION_BASE,   0x200000
        .set LIMIT_PAGES,   (0xc0000000 - REGION_BASE) >> 12
        .set PAGES_A_LINE,  16384
        .set COM1,          0x3f8
        .set CR4_PGE,       0x80

        .code32
        .text
        .globl  _start
_start:
        jmp     main

        .balign 4
header: .set    HEADER_FLAGS, 0x10002           # load addresses given; memory size wanted
        .long   0x1badb002, HEADER_FLAGS, -(0x1badb002 + HEADER_FLAGS)
        .long   header, LOAD_ADDRESS, image_end, image_end, main

main:   cli
        cld
        movl    $stack_end, %esp
        movl    8(%ebx), %ecx                   # mem_upper: KiB above 1 MiB
        subl    $1024, %ecx                     # the first of them is ours
        shrl    $2, %ecx
        cmpl    $LIMIT_PAGES, %ecx
        jbe     1f
        movl    $LIMIT_PAGES, %ecx
1:
        .if     REGION_PAGES
        cmpl    $REGION_PAGES, %ecx
        jbe     2f
        movl    $REGION_PAGES, %ecx
        .endif
2:      movl    %ecx, pages
        movw    $COM1 + 1, %dx                  # no UART interrupts, 8 bits, no parity
        xorb    %al, %al
        outb    %al, %dx
        movw    $COM1 + 3, %dx
        movb    $3, %al
        outb    %al, %dx
        xorl    %esi, %esi                      # esi, ebp: steps, low and high half
        xorl    %ebp, %ebp

new_pass:
        movl    $REGION_BASE, %edi
        movl    pages, %ecx
        movl    %cr4, %eax
        xorl    $CR4_PGE, %eax                  # whichever way it changes, the TLB is emptied
        movl    %eax, %cr4
write_page:
        movd    %esi, %mm0
        movd    %ebp, %mm1
        punpckldq %mm1, %mm0
        invlpg  steps                           # see above: the page that never leaves the TLB
        movq    %mm0, steps
        cmpl    $0, pass
        je      1f                              # nothing was written yet
        call    check_page
1:      movl    %esi, %eax
        movl    %ebp, %edx
        shldl   $3, %eax, %edx
        shll    $3, %eax
        .set    offset, 0
        .rept   8
        movl    %eax, offset(%edi)
        movl    %edx, offset + 4(%edi)
        incl    %eax
        .set    offset, offset + 512
        .endr
        decl    %eax
        notl    %eax
        notl    %edx
        movl    %eax, 4088(%edi)
        movl    %edx, 4092(%edi)
        addl    $4096, %edi
        addl    $1, %esi
        adcl    $0, %ebp
        decl    %ecx
        jnz     write_page

        movl    pages, %eax
        addl    %eax, unprinted
        cmpl    $PAGES_A_LINE, unprinted
        jb      1f
        movl    $0, unprinted
        call    print_pass
1:      incl    pass
        jmp     new_pass

check_page:                                     # edi: the page; changes eax, ebx, edx
        movl    %esi, %eax                      # edx, eax: what step - pages wrote first
        movl    %ebp, %edx
        subl    pages, %eax
        sbbl    $0, %edx
        shldl   $3, %eax, %edx
        shll    $3, %eax
        xorl    %ebx, %ebx                      # ebx: all differences
        .set    offset, 0
        .rept   8
        xorl    offset(%edi), %eax
        orl     %eax, %ebx
        xorl    offset(%edi), %eax
        xorl    offset + 4(%edi), %edx
        orl     %edx, %ebx
        xorl    offset + 4(%edi), %edx
        incl    %eax
        .set    offset, offset + 512
        .endr
        decl    %eax
        notl    %eax
        notl    %edx
        xorl    4088(%edi), %eax
        orl     %eax, %ebx
        xorl    4092(%edi), %edx
        orl     %edx, %ebx
        jz      2f
        cmpl    $0, bad
        jne     1f
        movl    %edi, %eax
        subl    $REGION_BASE, %eax
        shrl    $12, %eax
        movl    %eax, bad_page
1:      incl    bad
2:      ret

print_pass:
        movl    $text, %ebx
1:      movb    (%ebx), %al
        testb   %al, %al
        jz      2f
        call    put_byte
        incl    %ebx
        jmp     1b
2:      movl    pass, %eax
        movl    $10, %ebx
        xorl    %ecx, %ecx
3:      xorl    %edx, %edx
        divl    %ebx
        pushl   %edx
        incl    %ecx
        testl   %eax, %eax
        jnz     3b
4:      popl    %eax
        addb    $'0', %al
        call    put_byte
        decl    %ecx
        jnz     4b
        movb    $'\n', %al

put_byte:                                       # al, when the transmitter takes it
        movb    %al, %ah
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        movw    $COM1, %dx
        movb    %ah, %al
        outb    %al, %dx
        ret

text:   .asciz  "pass "

        .org    STATE_ADDRESS - LOAD_ADDRESS
        .ascii  "RDMAMIGG"
steps:  .quad   0
base:   .long   REGION_BASE
pages:  .long   0
pass:   .long   0
unprinted:
        .long   0
bad:    .long   0
bad_page:
        .long   0
        .space  256
stack_end:
image_end:
