# Hand-written functions without a type or size, as old assembly has them.
	.text
	.globl asm_without_size
asm_without_size:
	nop
	nop
	nop
	ret
	.globl asm_next
asm_next:
	nop
	ret
	.globl main
	.type main, @function
main:
	xorl %eax, %eax
	ret
	.size main, .-main
	.section .note.GNU-stack,"",@progbits
