"""The word lists of the generated pretraining text."""

from __future__ import annotations


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", " ").split(",") if part.strip())


GIRLS = _list("""
Ada, Alma, Anna, Bella, Bess, Cara, Clara, Cora, Daisy, Dora, Edith, Ella, Elsa, Emma, Esther,
Eva, Faye, Flora, Freya, Gemma, Grace, Greta, Hanna, Hazel, Helen, Ida, Ines, Iris, Ivy, Jane,
Jenny, Julia, June, Kate, Kira, Lara, Laura, Lena, Lily, Lina, Lotte, Lucy, Mabel, Maja, Mara,
Maria, Martha, Mina, Molly, Nell, Nina, Nora, Olga, Olive, Paula, Pearl, Polly, Rita, Rosa, Rose,
Ruth, Sally, Sara, Selma, Sofia, Stella, Susan, Tessa, Thea, Tilda, Vera, Viola, Wanda, Willa, Zoe
""")

BOYS = _list("""
Aaron, Adam, Albert, Alfred, Anton, Arthur, Basil, Ben, Bruno, Carl, Conrad, Daniel, David, Edgar,
Edwin, Emil, Eric, Felix, Finn, Frank, Fred, George, Gilbert, Hans, Harold, Harry, Henry, Hugo,
Igor, Isaac, Ivan, Jack, Jacob, Jasper, Joel, John, Jonas, Joseph, Karl, Kasper, Leo, Leon, Louis,
Lucas, Magnus, Marco, Mark, Martin, Max, Milo, Moritz, Nathan, Ned, Nils, Noah, Oliver, Oscar,
Otto, Owen, Paul, Peter, Philip, Ralph, Robin, Rufus, Sam, Simon, Theo, Thomas, Tim, Toby, Tom,
Victor, Walter, Wilbur, Will
""")

SYLLABLE_STARTS = _list("""
b, br, c, ch, cl, d, dr, f, fl, g, gl, gr, h, j, k, kl, kr, l, m, n, p, ph, pr, qu, r, s, sh, sk,
sl, sn, st, t, th, tr, v, vl, w, x, y, z
""")
SYLLABLE_MIDDLES = _list("""
a, e, i, o, u, a, e, i, o, u, ai, au, ea, ee, ei, ia, ie, io, oa, oo, ou, y
""")
SYLLABLE_ENDS = _list("""
b, ck, d, f, g, k, l, ll, lm, m, mp, n, nd, ng, nk, nt, p, r, rd, rk, rn, rt, s, sh, sk, ss, st,
t, th, v, x, z
""")

JOBS = _list("""
baker, miller, farmer, sailor, fisherman, tailor, cobbler, weaver, potter, painter, carpenter,
blacksmith, gardener, shepherd, hunter, cook, postman, teacher, doctor, nurse, clockmaker,
beekeeper, ferryman, lighthouse keeper, librarian, musician, singer, dancer, juggler, merchant,
pedlar, captain, soldier, guard, king, queen, prince, princess, knight, wizard, witch, woodcutter,
charcoal burner, stonemason, glassblower, candlemaker, bookbinder, mapmaker, innkeeper, milkmaid,
goatherd, student, astronomer, inventor, mayor, judge, thief, pilot, diver, miner, driver,
puppeteer, storyteller, basket maker, bell ringer, chimney sweep, gatekeeper, goldsmith, saddler,
thatcher, toymaker
""")

ANIMALS = _list("""
mouse, rat, cat, dog, fox, wolf, bear, badger, hedgehog, squirrel, rabbit, hare, mole, otter,
beaver, goat, sheep, cow, pig, horse, donkey, pony, deer, owl, crow, raven, sparrow, robin, duck,
goose, hen, swan, heron, stork, eagle, hawk, pigeon, parrot, frog, toad, newt, lizard, snake,
turtle, snail, bee, beetle, ant, spider, moth, butterfly, cricket, fish, crab, seal, whale,
dolphin, lion, tiger, camel, elephant, monkey, kitten, puppy, lamb, calf, ferret, weasel, marten,
bat, jackdaw, magpie, lynx
""")

MYTHICAL = _list("""
dragon, giant, dwarf, elf, goblin, troll, ghost, mermaid, gnome, ogre, phoenix, unicorn, imp,
robot, sprite, griffin, golem, centaur
""")

THINGS = _list("""
lamp, key, comb, mirror, book, map, box, basket, bucket, bell, drum, flute, fiddle, whistle,
hammer, saw, needle, spoon, fork, knife, pan, kettle, cup, plate, bowl, jug, bottle, candle,
lantern, clock, watch, ring, necklace, coin, button, ribbon, hat, cap, scarf, coat, cloak, glove,
boot, shoe, belt, umbrella, stick, rope, net, hook, wheel, cart, boat, kite, ball, doll, puppet,
top, feather, shell, stone, pebble, brush, pencil, letter, picture, carpet, blanket, pillow,
chair, stool, table, chest, broom, spade, rake, axe, ladder, barrel, sack, purse, compass,
telescope, chain, crown, shield, sword, trumpet, harp, horn, nail, thimble, tray, teapot, vase,
jar, stamp, flag, tent, sledge, wagon, pipe, anchor, oar, sail, bird cage, music box, fishing rod,
walking stick, pocket knife, paper boat
""")

MATERIALS = _list("""
wooden, silver, golden, copper, iron, glass, paper, leather, woollen, silk, stone, clay, tin,
brass, bronze, straw, marble, amber, ivory, velvet, crystal, steel
""")

COLOURS = _list("""
red, blue, green, yellow, white, black, brown, grey, orange, purple, pink, violet, scarlet,
crimson, golden, silver, turquoise, pale blue, dark green, bright red, rusty, cream, lilac,
spotted, striped
""")

SIZES = _list("""
small, little, tiny, big, large, huge, long, short, tall, narrow, wide, thin, thick, heavy, light,
round, flat, enormous, slender, plump
""")

QUALITIES = _list("""
old, new, broken, shiny, dusty, dirty, clean, beautiful, ugly, plain, strange, rare, common,
precious, cheap, useful, useless, cracked, crooked, smooth, rough, soft, hard, cold, warm, wet,
dry, empty, full, rusty, faded, bright, dull, sharp, blunt, painted, carved, polished, mended,
forgotten, hidden, secret, magic, simple, fine, sturdy, worn, torn, patched, sticky, odd
""")

MOODS = _list("""
shy, brave, grumpy, cheerful, lazy, clever, kind, proud, lonely, gentle, greedy, careful,
careless, curious, stubborn, patient, impatient, polite, rude, honest, sly, wise, foolish, quiet,
noisy, cautious, dreamy, friendly, generous, jealous, merry, modest, moody, nervous, calm,
playful, restless, serious, silly, sleepy, stern, timid, thoughtful, fearless, clumsy, nimble,
bold, humble, loyal, cunning
""")

GLAD = _list("""
happy, proud, excited, relieved, calm, glad, delighted, grateful, hopeful, pleased, cheerful
""")
SORRY = _list("""
sad, angry, afraid, ashamed, tired, hungry, lonely, worried, confused, bored, puzzled, disappointed,
frightened, nervous, jealous, cold, thirsty
""")

FLAVOURS = _list("""
plum, apple, pear, cherry, lemon, honey, almond, carrot, pumpkin, onion, mushroom, cabbage, bean,
potato, cheese, butter, ginger, cinnamon, berry, walnut, raisin, barley, oat, poppy, garlic, leek,
turnip, rhubarb, apricot, peach, fig, chestnut, hazelnut, mint, pepper, nettle, rose, vanilla
""")
DISHES = _list("""
jam, soup, pie, cake, bread, tea, stew, porridge, pudding, biscuits, pancakes, dumplings, tart,
salad, buns, noodles, juice, sauce, broth, toffee, waffles, muffins, rolls, syrup, pickles,
custard
""")
FRUITS = _list("""
apple, pear, plum, cherry, lemon, orange, peach, fig, melon, grape, carrot, onion, turnip,
cabbage, pumpkin, potato, leek, radish, cucumber, tomato, walnut, chestnut, egg, loaf, cake,
cheese, sausage, fish, pie, bun, pancake, biscuit
""")
STAPLES = _list("""
flour, sugar, salt, pepper, butter, milk, cream, honey, oil, vinegar, rice, barley, oats, tea,
coffee, soap, wool, thread, paper, ink, wax, string, hay, firewood, coal, sand, clay, glue, paint,
yeast, mustard, cinnamon, ginger, jam, cheese, bread, beans, peas, lentils, nuts, raisins, dates,
candles, nails, matches, needles, buttons, eggs, apples, pears, onions, carrots, potatoes,
herring, ham
""")

PLACES = _list("""
mill, barn, cottage, castle, tower, lighthouse, cave, hut, cellar, attic, garden, orchard, meadow,
forest, valley, village, harbour, market, bakery, workshop, library, church, school, inn, palace,
farm, stable, greenhouse, museum, theatre, station, bridge, island, swamp, desert, mountain,
quarry, mine, well, ruin, temple, tent, boathouse, treehouse, windmill, chapel, monastery, abbey,
shed, kitchen
""")
PLACE_QUALITIES = _list("""
old, small, dark, empty, quiet, ruined, hidden, distant, sunny, windy, abandoned, crooked, dusty,
narrow, snowy, misty, noisy, crowded, little, big, damp, cosy, deep, green, haunted, lonely, tidy,
gloomy, wooden, famous, forgotten, frozen
""")
WHERE = _list("""
in the garden, in the forest, in the meadow, in the kitchen, in the cellar, in the attic, in the
barn, in the village, in the valley, in the market square, in the orchard, in the library, in the
workshop, in the tall grass, in the snow, in the mud, in the shade, in the harbour, in the old
tower, on the hill, on the roof, on the bridge, on the beach, on the island, on the road, on the
table, on the windowsill, on the stairs, on the shelf, on the ice, on the bench, on the riverbank,
by the river, by the sea, by the fire, by the well, by the gate, by the lake, by the window, by
the old oak, by the fence, by the stove, under the bridge, under the table, under the bed, under
the stairs, under the apple tree, under the stars, under the roof, behind the house, behind the
barn, behind the mill, behind the curtain, behind the hedge, near the church, near the windmill,
near the harbour, near the quarry, beside the pond, beside the path, at the market, at the inn, at
the edge of the forest, at the end of the lane, at the crossroads, at the foot of the mountain, at
the top of the hill, between the rocks, between two birches, outside the town, inside the hollow
tree, above the bakery, across the river, beyond the hills
""")
SCENES = _list("""
garden, forest, meadow, kitchen, cellar, attic, barn, village, valley, orchard, library, workshop,
harbour, market, castle, cave, mill, bakery, inn, school, stable, cottage, tower, chapel
""")
TREES = _list("""
oak, birch, pine, willow, maple, beech, ash, elm, fir, poplar, linden, chestnut tree, apple tree,
cherry tree, pear tree, walnut tree, hawthorn, rowan, alder, yew
""")
FLOWERS = _list("""
roses, daisies, tulips, violets, poppies, lilies, bluebells, snowdrops, buttercups, sunflowers,
daffodils, pansies, marigolds, irises, clover, heather, lavender, thistles, foxgloves, primroses
""")

WEATHER = _list("""
The sun was shining, It was raining, Snow was falling, A cold wind blew, The sky was grey, Fog lay
over the fields, It was a hot day, Clouds hid the sun, The air smelled of rain, Frost covered the
windows, Thunder rolled far away, The evening was mild, The night was clear, A warm breeze came
from the south, The leaves were turning yellow, The moon was full, The first stars were out, The
grass was wet with dew, Hail drummed on the roofs, The morning was bright, The wind had dropped,
It was already getting dark
""")
WHEN = _list("""
one morning, one evening, one day, one night, one afternoon, one winter day, one summer morning,
one rainy day, one sunny morning, early in the spring, late in the autumn, on a cold morning, on a
warm evening, at noon, at sunrise, at sunset, before breakfast, after supper, on market day, on
the first day of summer, on the last day of winter, in the middle of the night, after the storm,
on a Sunday, on a Monday, last week, last winter, many years ago, long ago, not long ago
""")
LATER = _list("""
the next day, the next morning, that evening, that night, an hour later, a little later, soon,
after a while, at last, in the end, two days later, a week later, by noon, before long, the same
day, that afternoon, a moment later, when it grew dark, when the rain stopped, when the sun rose
""")
DAYS = _list("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
MONTHS = _list("""
January, February, March, April, May, June, July, August, September, October, November, December
""")
EDIBLE = _list("""
flour, sugar, salt, pepper, butter, milk, cream, honey, oil, vinegar, rice, barley, oats, yeast,
mustard, cinnamon, ginger, cheese, beans, peas, lentils, nuts, raisins, dates, eggs, apples, pears,
onions, carrots, potatoes, herring, ham, plums, parsley, thyme, lemons, mushrooms, bacon, chestnuts
""")
NUMBERS = _list("""
two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fifteen, twenty,
thirty
""")
ORDINALS = _list("first, second, third, fourth, fifth, sixth")

FEARS = _list("""
thunder, the dark, deep water, spiders, loud noises, high places, fire, strangers, the cold,
ghosts, snakes, being alone, storms, big dogs, narrow tunnels, mice, the moon, crowds, mirrors,
owls, bees, falling leaves, wolves, shadows, the sea, needles, bells, fog
""")
HOBBIES = _list("""
fishing, painting, singing, dancing, reading, swimming, knitting, climbing, cooking, wrestling,
skating, gardening, sailing, drawing, running, riding, baking, whistling, juggling, sewing,
collecting stamps, telling jokes, playing chess, playing the flute, playing the drum, counting
stars, flying kites, building boats, feeding birds, carving wood, picking mushrooms, writing
letters, solving riddles
""")

ADVERBS = _list("""
slowly, quickly, quietly, loudly, carefully, happily, sadly, gently, softly, suddenly, bravely,
nervously, proudly, politely, silently, eagerly, patiently, calmly, gladly, angrily, lazily,
kindly, shyly, wearily, cheerfully
""")
WALKED = _list("""
walked, ran, went, hurried, wandered, climbed, crept, marched, hiked, strolled, rushed, tiptoed,
limped, galloped, rode, travelled, stumbled, trotted
""")
SAID = _list("""
said, whispered, shouted, answered, cried, murmured, called, replied, grumbled, laughed, sighed,
muttered
""")
SOUNDS = _list("""
a knock, a whisper, a crash, a bell, a song, a scream, a splash, a whistle, footsteps, a low
growl, a soft humming, a strange noise, the howling of a wolf, the creaking of a door, music,
laughter, the ticking of a clock, a faint cry
""")
MADE = _list("""
built, painted, carved, mended, sewed, knitted, polished, drew, hammered, glued, cleaned,
decorated
""")
BODY = _list("hand, foot, knee, ear, nose, shoulder, tail, back, head, leg, arm, belly, chin, toe")

LISTS: dict[str, tuple[str, ...]] = {
    "girl": GIRLS,
    "boy": BOYS,
    "job": JOBS,
    "animal": ANIMALS,
    "mythical": MYTHICAL,
    "thing": THINGS,
    "material": MATERIALS,
    "colour": COLOURS,
    "size": SIZES,
    "quality": QUALITIES,
    "mood": MOODS,
    "glad": GLAD,
    "sorry": SORRY,
    "feeling": GLAD + SORRY,
    "flavour": FLAVOURS,
    "dish": DISHES,
    "fruit": FRUITS,
    "staple": STAPLES,
    "edible": EDIBLE,
    "place": PLACES,
    "placeq": PLACE_QUALITIES,
    "where": WHERE,
    "scene": SCENES,
    "tree": TREES,
    "flowers": FLOWERS,
    "weather": WEATHER,
    "when": WHEN,
    "later": LATER,
    "day": DAYS,
    "month": MONTHS,
    "number": NUMBERS,
    "fear": FEARS,
    "hobby": HOBBIES,
    "adverb": ADVERBS,
    "walked": WALKED,
    "said": SAID,
    "sound": SOUNDS,
    "made": MADE,
    "body": BODY,
    # Phrases made of the lists above.
    "food": (
        "<flavour> <dish>",
        "<flavour> <dish>",
        "<flavour> <dish>",
        "warm bread",
        "boiled eggs",
        "cold ham",
    ),
    "object": (
        "<material> <thing>",
        "<quality> <thing>",
        "<colour> <thing>",
        "<size> <thing>",
        "<size> <material> <thing>",
        "<quality> <colour> <thing>",
        "<thing>",
    ),
    "spot": ("<placeq> <place>", "<placeq> <place>", "<place>"),
    "adj": ("<size>", "<quality>", "<colour>"),
    "kind": ("<animal>", "<animal>", "<job>", "<job>", "<mythical>"),
}
