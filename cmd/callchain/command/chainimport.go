package command

import (
	"encoding/json"
	"errors"
	"fmt"

	"callchain/chains"
	"callchain/chains/thingsboard"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// exportBytesMax bounds an export of many chains; the server takes no more either.
const exportBytesMax = 16 << 20

// importFlags are the flags of "chain import".
type importFlags struct{ check, print, overwrite bool }

func (a *app) chainImport() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use: "import FILE", Short: "Bring rule chains over from ThingsBoard", Args: args(1, 1),
		Long: `Bring rule chains over from ThingsBoard: a chain that its web interface exported, the file of GET /api/ruleChains/export, or a chain
from its version control. What cannot be taken is told with node and field, all at once, and then nothing is stored (exit status 1).
What will have no effect here is told, too. With --check no server is needed.`,
		Example: `  callchain chain import root_rule_chain.json --check
  callchain chain import root_rule_chain.json --print > root.yaml
  callchain chain import all_chains.json --overwrite`,
	}
	c.Flags().BoolVar(&f.check, "check", false, "only tell what is wrong and what has no effect")
	c.Flags().BoolVar(&f.print, "print", false, "print the chain as YAML instead of storing it")
	c.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace chains that have the same name")
	c.RunE = func(c *cobra.Command, args []string) error {
		if f.check && f.print {
			return wrongUse("--check and --print exclude each other")
		}
		text, err := readFile(args[0], exportBytesMax)
		if err != nil {
			return err
		}
		list, problems, ignored, err := readExport(args[0], text)
		if err != nil {
			return err
		}
		switch {
		case len(problems) > 0 || f.check:
			return a.printChecked(len(list), problems, ignored)
		case f.print && len(list) != 1:
			return wrongUse("--print takes a file with one chain, this one has %d", len(list))
		case f.print:
			d, _ := list[0].Definition("", kinds()) // it compiled
			a.printf("%s", chains.Print(d))
			return nil
		}
		return a.importChains(c, text, f.overwrite, ignored)
	}
	return c
}

// readExport reads the chains of a file and tells what is wrong with them, and what has no effect.
func readExport(file string, text []byte) (list []thingsboard.Chain, problems, ignored chains.Problems, err error) {
	all := kinds()
	if list, err = thingsboard.ReadExport(file, text); err != nil {
		known, ok := errors.AsType[chains.Problems](err)
		if !ok {
			return nil, nil, nil, err
		}
		return nil, known, nil, nil
	}
	for _, chain := range list {
		place := file
		if len(list) > 1 {
			place += " (" + chain.Head.Name + ")"
		}
		ignored = append(ignored, chain.Ignored(place, all)...)
		_, err := chain.Compile(place, all, uuid.Max, 1)
		known, ok := errors.AsType[chains.Problems](err)
		if err != nil && !ok {
			return nil, nil, nil, err
		}
		problems = append(problems, known...)
	}
	return list, problems, ignored, nil
}

func (a *app) printChecked(read int, problems, ignored chains.Problems) error {
	if a.json {
		out := map[string]any{"chains": read, "problems": notNil(problems), "ignored": notNil(ignored)}
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			a.printf("%s\n", p.Error())
		}
		for _, p := range ignored {
			a.printf("%s (no mistake)\n", p.Error())
		}
		a.printf("%d chains, %d mistakes, %d things that have no effect\n", read, len(problems), len(ignored))
	}
	if len(problems) > 0 {
		return errSilent
	}
	return nil
}

func notNil(ps chains.Problems) chains.Problems { return append(chains.Problems{}, ps...) }

func (a *app) importChains(c *cobra.Command, text []byte, overwrite bool, ignored chains.Problems) error {
	server, err := a.client(c.Context())
	if err != nil {
		return err
	}
	stored, err := server.ImportChains(c.Context(), text, overwrite)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"chains": stored, "ignored": notNil(ignored)})
	}
	for _, p := range ignored {
		a.printf("%s (no mistake)\n", p.Error())
	}
	for _, s := range stored {
		what := "new     "
		if s.Updated {
			what = "replaced"
		}
		a.printf("%s  %s  %s\n", what, s.Chain.ID, s.Name)
	}
	return nil
}

func (a *app) chainExport() *cobra.Command {
	return &cobra.Command{
		Use: "export CHAIN-ID", Short: "Print a rule chain in ThingsBoard's form", Args: args(1, 1),
		Long: "Print a rule chain as ThingsBoard's web interface exports it. A node that ThingsBoard does not have keeps its own type;\n" +
			"ThingsBoard takes such a chain, but not such a node.",
		Example: "  callchain chain export 6f1a2f9e-6d0a-4d9e-9f0b-2f5f3f1c9a11 > chain.json",
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := uuid.Parse(args[0]); err != nil {
				return wrongUse("CHAIN-ID must be a UUID, is %q", args[0])
			}
			server, err := a.client(c.Context())
			if err != nil {
				return err
			}
			head, metadata, err := server.ExportChain(c.Context(), args[0])
			if err != nil {
				return err
			}
			var out thingsboard.Chain
			if err := errors.Join(json.Unmarshal(head, &out.Head), json.Unmarshal(metadata, &out.Metadata)); err != nil {
				return fmt.Errorf("reading the chain: %w", err)
			}
			out.Forget()
			text, err := out.Text()
			a.printf("%s\n", text)
			return err
		},
	}
}
