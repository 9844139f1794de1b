# Functions whose names other languages write, marks that assemblers leave, and symbols without
# sizes.
	.macro FUNCTION name
	.globl "\name"
	.type "\name", @function
"\name":
	.cfi_startproc
	nop
	nop
	ret
	.cfi_endproc
	.size "\name", . - "\name"
	.endm
	.text
	FUNCTION "*Shelf@Store(T)#fill<Int32>:Nil"
	FUNCTION "~procProc(Nil)@src/main.cr:10"
	FUNCTION "$s4main3fooyyF"
	FUNCTION "plain@OTHER_1"
	FUNCTION "_Z11constrainedITk1CiEiT_"

# Without a size, without unwind tables; a mark inside.
	.globl bare_function
bare_function:
	nop
	nop
"$d.1":
	nop
	nop
"$xrv64gc":
	ret
.Lmark:
	ret
# What is behind it has tables, but its symbol is stripped.
	.type stripped_function, @function
stripped_function:
	.cfi_startproc
	nop
	nop
	ret
	.cfi_endproc
	.size stripped_function, . - stripped_function
# Tables, but no size.
	.globl sizeless_function
	.type sizeless_function, @function
sizeless_function:
	.cfi_startproc
	nop
	nop
	ret
	.cfi_endproc
# Neither: nothing tells that it is not a part of the one before, but its tables.
stripped_bare_function:
	nop
	ret
# One place, two symbols without sizes: a label is the worse name, though it is global.
	.globl label_of_a_function
label_of_a_function:
	.type static_function, @function
static_function:
	ret
	nop
	.type last_function, @function
	.globl last_function
last_function:
	nop
	ret
	.size last_function, . - last_function
	.section .note.GNU-stack, "", @progbits
