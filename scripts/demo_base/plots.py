"""The plots of the generated stories: each a list of beats, each beat a list of wordings."""

from __future__ import annotations

OPENINGS = (
    "Once there was a~ <A_mood> <A_kind> called <A>.",
    "Once upon a time a~ <A_kind> named <A> lived near a~ <spot#home>.",
    "<A> was a~ <A_mood> <A_kind>. <^A_he> lived in a~ <spot#home> and liked <hobby>.",
    "There was once a~ <A_kind> called <A>, who was very <A_mood>.",
    "In a~ <spot#home> lived a~ <A_kind> by the name of <A>.",
    "Everyone in the village knew <A>, the <A_mood> <A_kind>.",
    "Far away, in a~ <spot#home>, there lived a~ <A_mood> <A_kind>. <^A_his> name was <A>.",
    "This is the story of <A>, a~ <A_kind> with a~ <object>.",
    "My grandmother used to tell me about a~ <A_kind> called <A>.",
    "Nobody was as <A_mood> as <A> the <A_kind>.",
    "<A> the <A_kind> had three things: a~ <object>, a~ <object> and a~ <object>.",
)

# For stories that stand below a card with which they have nothing to do.
ONCE_OPENINGS = (
    "Once there was a~ <A_mood> <A_kind> called <A>.",
    "Once upon a time a~ <A_kind> named <A> lived near a~ <spot#home>.",
    "Once upon a time there was a~ <A_kind> called <A>, who was very <A_mood>.",
)
# For plots in which the second character is known from the start.
FRIEND_OPENINGS = (
    "<A> and <B> were neighbours. <A> was a~ <A_kind>, and <B> was a~ <B_kind>.",
    "The <A_kind> <A> had only one friend, a~ <B_kind> called <B>.",
    "When <A> was young, <A_he> lived with <B>, a~ <B_mood> <B_kind>, in a~ <spot#home>.",
    "<A> the <A_kind> and <B> the <B_kind> did everything together.",
    "In the <spot#home> lived two friends, <A> and <B>. <A> was <A_mood>, but <B> was <B_mood>.",
)

INTERLUDES = (
    "<weather>.",
    "<weather>, and nobody was outside.",
    "It smelled of <food> everywhere.",
    "A~ <animal> sat <where> and watched.",
    "Somewhere a~ <animal> was calling.",
    "The <flowers> <where> were in bloom.",
    "From far away came <sound>.",
    "<A> was <feeling>, but <A_he> did not say so.",
    "<A> hummed a little song.",
    "The path was <placeq> and lined with <flowers>.",
    "A~ <tree> stood there, and under it lay a~ <object>.",
    "For a long time nobody said a word.",
    "<A> ate some <food> and felt better.",
    '"What a day," thought <A>.',
)

CLOSINGS = (
    "From that day on, <A> and <B> were the best of friends.",
    "<A> never forgot that day.",
    "And if you go there today, you may still see <A> and <B> together.",
    "That night <A> slept better than ever before.",
    "<A> was <glad>, and so was <B>.",
    "They laughed about it for many years.",
    "Then they all went home and ate <food>.",
    "And that is why <A> always says thank you to <B>.",
    "Since then, <A> has never been <sorry> again.",
    '"That was a good day," said <A>. "The best," said <B>.',
    "After that, <A> was no longer called <A_mood>.",
    "In the evening they sat <where> and told the story again.",
    "The <A_kind> smiled. It had all been worth it.",
    "<A> wrote it all down in a~ <quality> book.",
)

LOST = (
    (
        "<^when#t>, <A> could not find <A_his> <thing#o>. It was a~ <material#m> one.",
        "<^A_his> dearest thing was a~ <material#m> <thing#o>. But <when#t> it was gone.",
        "<^when#t>, <A> lost a~ <material#m> <thing#o> <where>.",
        '"Where is my <material#m> <thing#o>?" asked <A> <when#t>.',
    ),
    (
        "<A> looked <where#p> and <where#q>, but the <thing#o> was nowhere.",
        "<^A_he> searched the whole <place>. There was no <thing#o>.",
        "First <A_he> looked <where#p>. Then <A_he> looked <where#q>. Nothing!",
        "<^A_he> turned everything upside down, even the <object>. The <thing#o> was not there.",
    ),
    (
        '<A> asked <B>, the <B_kind>. "Have you seen my <thing#o>?" "No," said <B>, "but ask <C>."',
        'Then <A_he> met <B>. "I have lost my <thing#o>," <said> <A>. "I will help you," <said> '
        "<B>.",
        '"Why are you so <sorry#f>?" asked <B>. "Because I have lost my <material#m> <thing#o>," '
        "said <A>.",
        "So <A> went to <B>, who was a~ <B_kind> and knew everything. <B> thought for a while.",
    ),
    (
        "<^later>, <B> saw something shine <where#r>. It was the <material#m> <thing#o>!",
        "Together they looked <where#r>, and there lay the <thing#o>, all <quality>.",
        "It was <C> who had the <thing#o>. <C> had found it <where#r> and kept it safe.",
        "<^later>, a~ <animal#x> ran past with the <thing#o> in its mouth. They followed the "
        "<animal#x> and got the <thing#o> back.",
        'Then <B> laughed. "Look behind you," <B_he> said. The <thing#o> was on <A>\'s back.',
    ),
    (
        '"Thank you, <B>!" said <A>, and gave <B_him> some <food#g>. <B> loved <food#g>.',
        "<A> was so glad that <A_he> hugged <B>.",
        "<A> put the <material#m> <thing#o> into a~ <quality> box and locked it.",
        '"I will never lose my <thing#o> again," <said> <A>.',
    ),
)

GIFT = (
    (
        "<^when>, <A> wanted to give <B> a present, because <B> was <sorry#f>.",
        "It was <B>'s birthday, and <A> had no present for <B_him>.",
        "<B> the <B_kind> had helped <A> all winter. Now <A> wanted to thank <B_him>.",
        "<A> had heard that <B> was ill. <^A_he> wanted to bring <B_him> something nice.",
    ),
    (
        "<^A_he> thought of a~ <object#x>, but <B> already had a~ <object#x>.",
        '"What does <B> like?" <A_he> asked <C>. "<B> likes <food#g>," said <C>.',
        "<A> had no money, only a~ <object#x> and some <staple>.",
        "In the market there was a~ <object#x>, but it cost <number#n> coins, and <A> had only "
        "one.",
    ),
    (
        "So <A_he> sat down and made a~ <thing#o> for <B>. It took <number> days.",
        "So <A> went to the <spot#s> and looked for a~ <thing#o>. At last <A_he> found one.",
        "So <A> went to work <where> and made a~ <colour#c> <thing#o> with <A_his> own hands.",
        "<C> had a~ <colour#c> <thing#o> that nobody needed. <A> cleaned it until it shone.",
    ),
    (
        "When <B> saw the <thing#o>, <B_he> could not speak for joy.",
        '"A <thing#o>!" <said> <B>. "I have always wanted a <thing#o>."',
        "<B> turned the <thing#o> over and over. It was the finest <thing#o> <B_he> had ever seen.",
        '<B> looked at the <thing#o>. "Did you make this, <A>?" <B_he> asked. "Yes," said <A>.',
    ),
    (
        "From then on the <thing#o> stood <where>, where everybody could see it.",
        "<B> carried the <thing#o> everywhere, even to the <spot>.",
        "And what did <B> give <A>? A~ <object>, wrapped in <colour> paper.",
        "Later <C> came too, and they shared <food> and <food>.",
    ),
)

JOURNEY = (
    (
        "<^when>, <A> decided to travel to the <spot#s>. <^A_he> had never been there.",
        "<A> wanted to see the <spot#s>. <^A_he> packed <food#f>, a~ <object> and a~ <object>.",
        "A letter came from <C>. It said: come to the <spot#s> at once. So <A> set out.",
        '"Come with me to the <spot#s>," said <A> to <C>. "Not today," said <C>. So <A> went '
        "alone.",
    ),
    (
        "The road to the <spot#s> was long. <A> <walked> for <number#n> hours.",
        "<A> <walked> past a~ <spot>, through a~ <spot> and over a~ <placeq> bridge.",
        "After <number#n> days <A_his> food was gone, and <A_his> <body> hurt.",
        "<^A_he> came to a crossroads. One road was <placeq#l>, the other was <placeq#r>.",
    ),
    (
        "There <A_he> met <B>, a~ <B_mood> <B_kind>, who sat <where> and ate <food#g>.",
        'On the way a~ <B_kind> called <B> stopped <A_him>. "Where are you going?" asked <B>. '
        '"To the <spot#s>," said <A>.',
        '"Is this the way to the <spot#s>?" <A> asked a~ <B_kind>. "It is," <said> <B>, for that '
        "was the name of the <B_kind>.",
        "<^later>, it began to rain. <B>, a~ <B_kind>, let <A_him> sleep in a~ <placeq> <place>.",
    ),
    (
        '"I will show you the way," said <B>, and they <walked> on together.',
        '<B> gave <A_him> a~ <object#o>. "Take this <A>, you will need it," <B_he> said.',
        "They shared the <food#g>, and then both <walked> on.",
        '"Be careful," said <B>. "There is a~ <mood> <animal#z> on the road." And so it was: the '
        "<animal#z> stood <where>. But it only wanted some <food>.",
    ),
    (
        "At last they saw the <spot#s>. It was even more beautiful than <A> had thought.",
        "<^later>, <A> reached the <spot#s>. Everybody was glad to see <A_him>.",
        '"Here it is," said <B>, "the <spot#s>." <A> was <glad>.',
        "When they came to the <spot#s>, all the lamps were lit, and somebody played the fiddle.",
    ),
)

QUARREL = (
    (
        "<^when>, <A> and <B> quarrelled about a~ <object#o>.",
        "<A> and <B> both wanted the last piece of <flavour#v> <dish#d>.",
        "<A> had broken <B>'s <thing#o>, and <B> was <sorry>.",
        "<B> said that <A> was too <mood#m>. <A> said that <B> was too <mood#n>.",
    ),
    (
        '"It is mine!" <said> <A>. "No, it is mine!" <said> <B>.',
        '"You are no longer my friend, <A>," said <B>, and <walked> away.',
        "They did not speak for <number> days. <A> stayed <where>, and <B> stayed <where>.",
        "<A> shut the door. <B> shut the window. Nobody said sorry.",
    ),
    (
        "But without <B> everything was dull. <A> did not even enjoy <hobby>.",
        "<A> sat <where> and thought of <B>. <B> sat <where> and thought of <A>.",
        'Then came <C>, the <C_kind>. "What is wrong with you two?" asked <C>.',
        "<A> tried to play with <C>, but <C> was a~ <C_kind> and only wanted to sleep.",
    ),
    (
        '<^later>, <A> went to <B>. "I am sorry, <B>," <A_he> said. "I am sorry too, <A>," said '
        "<B>.",
        "So <A> wrote a letter: Dear <B>, I was wrong. Your friend <A>.",
        "<C> had an idea. <C> invited both of them for <food#g> and left them alone with it.",
        '"Friends are worth more than that," <said> <C>. <A> looked at <B>, and <B> looked at <A>.',
    ),
    (
        "They shook hands, and everything was well again.",
        "Then they both laughed, for neither could remember how it had begun.",
        "<A> gave <B> half, and <B> gave <A> half, and it was enough for both.",
        "Now they share everything, even <food>.",
    ),
)

STORM = (
    (
        "<^when>, a great storm came over the <spot#s>.",
        "The wind began to howl while <A> was <where>.",
        "It rained for <number> days, and the river rose and rose.",
        "<A> woke up because of <sound>. Outside the storm was raging.",
    ),
    (
        "The wind tore the roof off the <place#h> where <B> lived.",
        "Water ran into the <place#h>, and <B> the <B_kind> could not get out.",
        "A~ <tree#x> fell across the road. Behind it stood <B>, <sorry>.",
        '"Help!" <said> somebody. It was <B>, the <B_kind>, who sat on top of the <place#h>.',
    ),
    (
        "<A> was afraid of <fear>, but <A_he> did not think of that now.",
        "<A> took a~ rope and a~ <object#o> and <walked> out into the rain.",
        '"Hold on, <B>!" <said> <A>. "I am coming!"',
        "<A> called <C>. <C> was a~ <C_kind> and very strong.",
    ),
    (
        "<^A_he> threw the rope, <B> caught it, and <A> pulled with all <A_his> strength.",
        "Step by step <A_he> went, until <A_he> could take <B> by the <body>.",
        "Together <A> and <C> pulled <B> out of the water.",
        "<A> built a raft out of a~ <thing#o> and a~ <thing#p>, and it carried them both.",
    ),
    (
        "When the sun came out again, they repaired the <place#h> together.",
        '"You saved me, <A>," said <B>. "You would do the same for me," said <A>.',
        "They dried themselves by the fire and drank <flavour> tea.",
        "The storm was over. The only thing that was lost was a~ <object>.",
    ),
)

LEARN = (
    (
        "<A> wanted to learn <hobby#k>, but everybody laughed.",
        '"I am too <mood> for <hobby#k>," thought <A>.',
        "All <A_his> friends were good at <hobby#k>. Only <A> was not.",
        "<^when>, <A> saw how <B> was <hobby#k>. <^A_he> wanted to do that too.",
    ),
    (
        '<^A_he> asked <B>. "Teach me <hobby#k>," <A_he> said. "Gladly," said <B>.',
        "<B> was a~ <B_kind> and the best teacher in the <place>.",
        '"It is not hard," said <B>. "You only need patience and a~ <object#o>."',
        "So <A> took a~ <object#o> and began to practise <where>.",
    ),
    (
        "The first day everything went wrong. <A> fell and hurt <A_his> <body#b>.",
        "<A> tried it <number#n> times, and <number#n> times it went wrong.",
        '"I will never learn it," <said> <A>. "Try once more," <said> <B>.',
        "<C> watched and laughed. <A> became <sorry>, but <A_he> did not give up.",
    ),
    (
        "But <A> practised every day, before breakfast and after supper.",
        "Slowly it got better. On <day> it almost worked, and on <day> it worked.",
        "<B> showed it once more, very slowly. Now <A> understood.",
        "<A> dreamed of <hobby#k>, talked of <hobby#k>, and thought of nothing else.",
    ),
    (
        "<^later>, <A> was better at <hobby#k> than <B>.",
        "Now even <C> wants to learn <hobby#k> from <A>.",
        '"You see," said <B>, "even a~ <A_kind> can learn <hobby#k>."',
        "There was a contest in the <spot>, and <A> won a~ <object>.",
    ),
)

SECRET = (
    (
        "<^when>, <A> found a~ <object#o> <where#p>.",
        "<^when>, <A> opened a~ <quality> box. In it was a~ <object#o>.",
        "Under a~ <tree>, <A> dug up a~ <object#o>.",
        "A stranger gave <A> a~ <object#o> and went away without a word.",
    ),
    (
        'Something was written on it: "For <C>." But who was <C>?',
        "When <A> touched it, <A_he> heard <sound>.",
        "It was <quality>, and it glowed in the dark. <A> was <feeling>.",
        "Strange! Whenever <A> held it, <A_he> could understand what every <animal> said.",
    ),
    (
        "<A> showed it to <B>, the <B_kind>. <B> grew pale.",
        '"Tell nobody," <said> <B>. "Why?" asked <A>. "Because it belongs to <C>," said <B>.',
        "<B> had read about such things. They came from the <spot#s>.",
        '"I know what that is," said <B>. "My grandmother had one, too."',
    ),
    (
        "So they brought it to the <spot#s>, where <C>, a~ <C_kind>, lived all alone.",
        "<^later>, <C> the <C_kind> knocked at the door and asked for it.",
        "They looked for <C> for <number> days, and found <C_him> in the <spot#s>.",
        "<A> could not sleep. <^A_he> <walked> to <C> and told <C_him> everything.",
    ),
    (
        '"At last!" <said> <C>. "I have looked for it for <number> years."',
        '<C> thanked <A> and gave <A_him> a~ <object>. "You are an honest <A_kind>," <C_he> said.',
        "<C> smiled and put it back <where#p>. There it lies to this day.",
        "It turned out that <C> and <B> had been friends long ago.",
    ),
)

TRADE = (
    (
        "<^when>, <A> went to the market with a~ <object#o>.",
        "<A> the <A_kind> had a~ <object#o> that <A_he> did not need any more.",
        "<A> was hungry, but <A_he> had nothing except a~ <object#o>.",
    ),
    (
        'There <A_he> met <B>. "I need a~ <object#o>," said <B>. "I will give you a~ <object#p> '
        'for it."',
        "<B> offered <A_him> a~ <object#p> for the <object#o>. <A> agreed.",
        "<A> gave the <object#o> to <B> and got a~ <object#p> from <B_him>.",
    ),
    (
        "Next <A_he> met <C>, who had <food#f>. <C> wanted the <object#p>.",
        'Then came <C>. "What a fine <object#p>!" <said> <C>. "Take my <food#f> for it."',
        "<A> gave the <object#p> to <C>, and <C> gave <A_him> <food#f>.",
    ),
    (
        "So <A> came home with <food#f>, <B> had the <object#o>, and <C> had the <object#p>.",
        "<A> sat down <where> and ate the <food#f>. <^A_he> did not miss the <object#o> at all.",
        "In the end <C> was happy with the <object#p>, <B> with the <object#o>, and <A> with the "
        "<food#f>.",
    ),
)

COOKING = (
    (
        "<^when>, <A> wanted to cook <flavour#v> <dish#d> for <B>.",
        '"Today we make <flavour#v> <dish#d>," said <A> to <B>.',
        "<B> was hungry and dreamed of <flavour#v> <dish#d>.",
    ),
    (
        "<A> needed <edible#x>, <edible#y> and <edible#z>.",
        '"We need <edible#x>, <edible#y> and <edible#z>," said <A>.',
        "In the kitchen were <edible#x>, <edible#y> and <edible#z>, but no <flavour#v>.",
    ),
    (
        "But nobody had any <edible#y> left. So <B> <walked> to <C> to borrow some <edible#y>.",
        '"I have the <edible#x>," <said> <B>. "But who has the <edible#y>?" "I do," said <C>.',
        "<B> brought the <edible#z>, <C> brought the <edible#x>, and <A> had the <edible#y>.",
    ),
    (
        "<A> mixed the <edible#x> with the <edible#y>, and last of all came the <edible#z>.",
        "First the <edible#z>, then the <edible#x>: <A> stirred it <adverb>.",
        "<A> put everything into a~ <size> pot, the <edible#x> first and the <edible#y> last.",
    ),
    (
        "The <flavour#v> <dish#d> smelled so good that <C> came running.",
        'They all tasted the <flavour#v> <dish#d>. "Delicious!" <said> <C>.',
        "<B> ate <number> plates of <flavour#v> <dish#d> and fell asleep <where>.",
    ),
)

CREATURE = (
    (
        "<^when>, <A> heard <sound> <where#p>.",
        "<^when>, <A> found a~ <size#s> <animal#x> <where#p>. It was hurt.",
        "A~ <size#s> <animal#x> was caught in a net. <A> saw it <when>.",
    ),
    (
        'It was a~ <animal#x>. "Please help me," <said> the <animal#x>. "My <body#b> hurts."',
        "The <animal#x> could not walk, because its <body#b> was hurt.",
        "The <animal#x> was <sorry> and trembled. <A> spoke to it <adverb>.",
    ),
    (
        "<A> carried the <animal#x> home and gave it <food#f>. <^A_he> called it <B>.",
        "<A> bound its <body#b> with a~ <colour> ribbon and gave it the name <B>.",
        '"I will call you <B>," said <A>. The <animal#x> seemed to like the name.',
    ),
    (
        "Every day <B> grew stronger. <B> slept <where> and ate nothing but <food#f>.",
        "After <number> weeks <B> could run again.",
        "<B> the <animal#x> followed <A> everywhere, even to the <spot>.",
    ),
    (
        "One day <B> saved <A_his> life, but that is another story.",
        "When spring came, <B> went back to the forest. <A> was <sorry>, but <A_he> understood.",
        '<C> wanted to buy <B> for <number> coins. "<B> is not for sale," <said> <A>.',
    ),
)

CONTEST = (
    (
        "<^when>, there was a contest in the <spot#s>: who is the best at <hobby#k>?",
        "The mayor promised a~ <object#o> to the winner of the great race.",
        "<A>, <B> and <C> all said that they were the fastest.",
    ),
    (
        "<A> was a~ <A_kind>, <B> was a~ <B_kind>, and <C> was a~ <C_kind>.",
        "<A> practised for <number> weeks. <B> did not practise at all, and <C> only slept.",
        "<C> thought that <B> would win. <B> thought that <A> would win.",
    ),
    (
        "They began at noon. First <C> was ahead, then <B>, and <A> came last.",
        "<B> ran fast, but then <B_he> stopped to eat <food#f>.",
        "<C> stumbled over a~ <object> and hurt <C_his> <body>.",
    ),
    (
        'When <A> saw that, <A_he> stopped. "Are you all right, <C>?" <A_he> asked.',
        "<A> did not look left or right, and <walked> on <adverb>.",
        "Then a fog came up, and nobody could see anything. Only <A> knew the way.",
    ),
    (
        "In the end <A> was first, <B> was second, and <C> was third.",
        "<B> was first, <C> was second, and <A> was third. But everybody cheered for <A>.",
        "<C> won, and <C_he> shared the prize with <A> and <B>.",
    ),
)

VOYAGE = (
    (
        "<^when>, <A> found an old boat <where> and called it <invented#b>.",
        "<A> bought a boat from an old <job>. The boat was called <invented#b>.",
        '"This is my ship, the <invented#b>," said <A> to <B>.',
    ),
    (
        "<A> and <B> loaded the <invented#b> with <edible#f>, <edible#g> and a~ <object#o>.",
        '"Where shall we sail?" asked <B>. "To <invented#i>," said <A>, "the island of '
        'the <mythical#x>."',
        "They wanted to reach <invented#i>, an island that no <A_kind> had ever seen.",
    ),
    (
        "For <number> days they saw nothing but water. <B> was <feeling>, and <A> sang.",
        "After <number> days a storm came up, and the <invented#b> began to leak.",
        '"Land!" <said> <B> at last. There lay <invented#i>, <colour> in the morning sun.',
        "At night <A> steered by the stars, and by day <B> steered by the sun.",
    ),
    (
        "On <invented#i> they met <C>, a~ <C_kind> who had lived there for <number> years.",
        "The beach of <invented#i> was full of <material> shells.",
        'An old <C_kind> stood on the shore. "Welcome to <invented#i>," <said> <C>.',
    ),
    (
        "When the <invented#b> came home, the whole village stood <where>.",
        "<A> gave the name <invented#i> to <A_his> next boat, for the old <invented#b> was broken.",
        "Now there is a picture of the <invented#b> <where>.",
        "<C> came home with them on the <invented#b>, and never went back to <invented#i>.",
    ),
)

RIDDLE = (
    (
        "<^when>, <A> came to a~ <placeq> bridge. <B>, a~ <B_kind>, would let nobody pass.",
        "<B> the <B_kind> loved riddles, and <when#t> <B_he> asked <A> one.",
        'At the gate of the <spot> stood <B>. "Only those who guess right may enter," said <B>.',
    ),
    (
        '"What have I got in my bag?" asked <B>. "Is it a~ <thing#x>?" <said> <A>. "No," said <B>.',
        '"What have I found <where#w>?" asked <B>. <A> had not been <where#w> for years.',
        '"What is <colour#c> and <size#s>?" asked <B>. "<^colour#c> and <size#s>?" <said> <A>.',
    ),
    (
        "<A> thought for <number> hours. Then <A_he> asked <C> for help.",
        "<A> sat down <where>, ate <food>, and thought.",
        '"May I try again?" asked <A>. "<^number#n> times," <said> <B>.',
    ),
    (
        '<C> whispered the answer: "It is a~ <object#o>." "A~ <object#o>!" <said> <A>.',
        '"Is it a~ <object#o>?" <said> <A>. "A~ <object#o> it is!" <said> <B>.',
        'At last <A> said: "It is a~ <object#o>!" And that was right.',
    ),
    (
        "<B> had to laugh and let <A> pass.",
        '"You are as <mood#m> as a~ <animal>," said <B>. "I am not so <mood#m>," said <A>.',
        "Since then <B> tells <A> a new riddle every <day>.",
    ),
)

HARVEST = (
    (
        "In spring <A> put a~ <size> seed into the ground <where#p>.",
        "<B> gave <A> a~ <size> seed. <A> put it into the ground <where#p>.",
        "<A> had a garden full of <flowers#f>, but nothing would grow <where#p>.",
    ),
    (
        "Every morning <A> carried water to it, and every evening <A_he> sang to it.",
        '"Nothing will ever grow there," <said> <C>. But <A> did not listen to <C>.',
        "<B> brought warm earth, and <C> brought a~ <material> fence.",
    ),
    (
        "In summer there came a~ <mood> <animal#z> and wanted to eat it. <A> chased the "
        "<animal#z> away.",
        "It did not rain for <number#n> weeks. For <number#n> weeks <A> carried water.",
        "Then, <when>, the first leaf came out. It was <colour#c>, and so was the second.",
    ),
    (
        "In autumn there was a~ <size> <fruit#o>. It was the finest <fruit#o> in the village.",
        "When the leaves turned <colour>, <A> could pick <number#k> <colour> <flowers>.",
        "At last it was so big that <A>, <B> and <C> had to carry it together.",
    ),
    (
        "<A> made <flavour#v> <dish#d> of it, and everybody got a plate of <flavour#v> <dish#d>.",
        '"I was wrong," <said> <C>. "Yes," said <A>, "but here is a piece for you, <C>."',
        "<A> kept one seed, for the next year.",
    ),
)

THIEF = (
    (
        "<^when>, <food#f> was missing from the kitchen of <B>.",
        'Somebody had eaten the <food#f>! "Who was it?" <said> <B>.',
        "<B> had hidden <food#f> <where#p>, but when <B_he> came back, it was gone.",
    ),
    (
        '"It was <C>," <said> the neighbours. "<C> loves <food#f>." But <C> said: "It was not me."',
        "Everybody looked at <A>, because <A> was always hungry.",
        "On the floor were the footprints of a~ <animal#x>.",
    ),
    (
        "<A> hid <where> and waited. In the night <A_he> heard <sound>.",
        "<A> looked at the plate. There was a~ <colour#c> hair on it. Who had <colour#c> hair?",
        '"Where were you last night?" <A> asked <C>. "I was <where>," said <C>, "with my '
        '<thing#o>."',
    ),
    (
        "It was a~ <size> <animal#x>! The <animal#x> had come in through the window.",
        "In the end <C> had to laugh, for <C_he> had crumbs all over <C_his> <body>.",
        'Then <B> grew red. "Now I remember," said <B>. "I ate the <food#f> myself."',
    ),
    (
        "<B> said sorry to everybody and cooked more <food#f>.",
        "From then on <B> locked the door, but <B_he> always left a little <food#f> outside.",
        '"I knew it," <said> <A>. "Now let us eat <food>."',
    ),
)

FRIEND_PLOTS = (
    LOST, GIFT, QUARREL, STORM, LEARN, SECRET, COOKING, CONTEST, VOYAGE, HARVEST, THIEF,
)  # fmt: skip
PLOTS = (*FRIEND_PLOTS, JOURNEY, TRADE, CREATURE, RIDDLE)
